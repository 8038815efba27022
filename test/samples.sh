#!/usr/bin/env bash
# Runs the samples as their users do.
#
#   test/samples.sh DIRECTORY [TIMES]
#
# DIRECTORY has the programs; `hello` is run TIMES times, 1,000 by default.
# shellcheck disable=SC2154  # descriptors: `connect` assigns them
set -euo pipefail

cd "$1"
times=${2-1000}

log=$(mktemp)
server=
target=
: >"$log.target"
trap '{ kill -KILL $server $target || true; } 2>/dev/null
      rm -f "$log" "$log.target"' EXIT

fail() {
  echo "$*" >&2
  exit 1
}

# --- Servers -----------------------------------------------------------------

# start NAME [ARGS...]: the sample NAME with PORT and ARGS, on the first port
# that is free.
start() {
  local status
  name=$1
  for ((;;)); do
    port=$((20000 + RANDOM % 10000))
    : >"$log"  # what the one before has said
    "./$name" "$port" "${@:2}" >"$log" 2>&1 &
    server=$!
    until grep -q . "$log"; do
      kill -0 "$server" 2>/dev/null || break
      sleep 0.01
    done
    ! grep -q "listening on port $port" "$log" || return 0
    status=0
    wait "$server" || status=$?
    server=
    [[ $status -eq 2 ]] || fail "$name: $status: $(cat "$log")"
  done
}

# stop: SIGTERM ends it well.
stop() {
  local status=0
  kill -TERM "$server"
  wait "$server" || status=$?
  server=
  [[ $status -eq 0 ]] || fail "$name: ended with $status: $(cat "$log")"
}

# refused TEXT ARGS...: one line that has the text, and status 2.
refused() {
  local status=0 said
  said=$("./$name" "${@:2}" 2>&1) || status=$?
  [[ $status -eq 2 ]] || fail "$name ${*:2}: status $status, not 2"
  [[ $(wc -l <<<"$said") -eq 1 && $said == *"$1"* ]] ||
    fail "$name ${*:2}: said \"$said\""
}
# refused_ports [ARGS...]: as the server's PORT, before ARGS.
refused_ports() {
  local bad
  refused "port $port" "$port" "$@"  # taken
  for bad in seven 0 65536 7x; do refused "a number" "$bad" "$@"; done
  refused "a number"
}

# connect VARIABLE: its descriptor is left there.
connect() { eval "exec {$1}<>/dev/tcp/localhost/$port"; }
# hang_up DESCRIPTOR
hang_up() { eval "exec $1>&-"; }

# expect DESCRIPTOR LINE...: what comes next.
expect() {
  local line said
  for line in "${@:2}"; do
    read -r -t 20 -u "$1" said || fail "$name: no \"$line\" comes"
    [[ $said == "$line" ]] || fail "$name: \"$said\" instead of \"$line\""
  done
}
expect_end() {
  local said status=0
  read -r -t 20 -u "$1" said || status=$?
  [[ $status -eq 1 ]] || fail "$name: \"$said\" instead of the end ($status)"
}

# --- hello: its line each time -----------------------------------------------

for ((i = 0; i != times; ++i)); do
  [[ $(./hello) == "Hello world" ]] || fail "hello: not its line, run $i"
done

# --- Those that end by themselves --------------------------------------------

./ask >/dev/null || fail "ask: ended with $?"

# has PROGRAM LINE...: it ends well, and has printed each.
has() {
  local said line
  said=$("./$1") || fail "$1: ended with $?: $said"
  for line in "${@:2}"; do
    [[ $said == *"$line"* ]] || fail "$1: no \"$line\" in: $said"
  done
}
for ((i = 0; i != 10; ++i)); do
  has embedded "the awaitable got " "the callback got " "the thread got 4"
done
has timers "the guest in a hurry leaves" "the guest with time gets" \
  "no heartbeat any more"
[[ $(./timers | grep -c beep) -eq 5 ]] || fail "timers: not five beeps"

# The slow stage slows down the others, and nothing piles up before it.
said=$(timeout 60 ./pipeline bounded $((times * 300))) || fail "pipeline: ended with $?"
most=$(sed -n 's/.*, at most \([0-9]*\) seen in a mailbox$/\1/p' <<<"$said")
[[ -n $most && $most -le 1000 ]] || fail "pipeline: $said"
sums=$(for kind in bounded unbounded; do
  timeout 60 ./pipeline $kind $((times * 30)) 2>/dev/null | grep -o 'checksum [^,]*'
done | sort -u | wc -l)
[[ $sums -eq 1 ]] || fail "pipeline: another checksum when it is unbounded"
name=pipeline
refused "usage" sideways
refused "usage" bounded 0
for ((i = 0; i != 10; ++i)); do
  has pool "sea: 100 x 75" "ship: 100 x 100" "sea: 50 x 37" "ship: 50 x 50" \
    "nothing: the actor failed while handling the message" \
    "failed on a resize: std::invalid_argument: nothing has no width; restarted"
done

# in_order PROGRAM <LINES: it ends well, and has printed these in this order,
# others between them.
in_order() {
  local said line rest
  said=$(timeout 20 "./$1") || fail "$1: ended with $?: $said"
  rest=$said
  while read -r line; do
    [[ $rest == *"$line"* ]] || fail "$1: no \"$line\" in its place in: $said"
    rest=${rest#*"$line"}
  done
}
for ((i = 0; i != 10; ++i)); do
  in_order supervision <<'END'
child: again, word 2
talk: no answer
/user/parent/child failed on a say: std::invalid_argument: nothing to say; restarted
/user/parent/child restarted, number 1
child: hello, word 1
customer: order 1
customer: no order
database/connection failed on a query: db_lost: connection reset; restarted in 10 ms
database/connection restarted, number 1
connection: connected
customer: order 2
connection reset; restarted in 20 ms
connection refused; restarted in 40 ms
database/connection failed: db_lost: connection refused; escalated
/user/shop/database failed: db_lost: connection refused; restarted
customer: no order
/user/shop/database restarted, number 1
connection: connected
/user/shop/orders restarted, number 1
orders: open
customer: order 1
END
done

in_order greeter <<'END'
/greeter: made
greeter: ready for the first message
Hello Alice!
greeter: failed after 1 greetings
greeter: gone
/greeter: made
greeter: ready for the first message
Hello Bob!
greeted by this one: 1
greeter: said goodbye
greeter: gone
Alice's number: 4711
END

for ((i = 0; i != 3; ++i)); do
  in_order saga <<'END'
customer: no transfer of 30
bank: transfer 1
nobody waits any more
/user/bob failed on a book_entry: disk_error: the disk is gone; restarted
bank: transfer 1: taken back
customer: transfer 2 of 50 is done
customer: no transfer of 1000
alice has 50, bob has 70, together 120
END
  in_order philosophers <<'END'
dinner: 5 philosophers have eaten 20 times each
naive dinner: /user/plato asks /user/kant asks /user/hume asks /user/marx asks /user/mill asks /user/plato:
END
done

# --- echo_server -------------------------------------------------------------

start echo_server
refused_ports

# 1,000 lines: the same come back.
connect line
seq -f 'line %g' 1000 >&"$line" &
diff <(seq -f 'line %g' 1000) <(head -n 1000 <&"$line") ||
  fail "echo_server: other lines came back"
hang_up "$line"

# SIGTERM with 50 idle connections: a clean end that says what it closes.
for ((i = 0; i != 50; ++i)); do
  connect idle
  echo "here" >&"$idle"
  expect "$idle" "here"  # it has been accepted
done
stop
grep -q "closed 50 connections" "$log" || fail "echo_server: $(cat "$log")"

# --- tcp_proxy ---------------------------------------------------------------

# What it connects to: a server that is asked, by a first line, to "count" what
# comes and say it at the end, or to "greet" and close its own side, and then to
# count. It says its port, and what it has counted.
perl -MIO::Socket::INET -e '
  $SIG{PIPE} = "IGNORE";
  $| = 1;
  my $listen = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 5)
    or die "no port: $!";
  print $listen->sockport, "\n";
  while (my $peer = $listen->accept) {
    my $what = <$peer>;
    if ($what eq "greet\n") {
      print $peer "hello\n";
      $peer->flush;
      $peer->shutdown(1);
    }
    my $bytes = 0;
    while (my $n = read $peer, my $data, 65536) { $bytes += $n }
    print $peer "$bytes\n" if $what eq "count\n";
    print "$bytes\n";
  }' >"$log.target" &
target=$!
until grep -q . "$log.target"; do
  kill -0 "$target" 2>/dev/null || fail "no server for tcp_proxy"
  sleep 0.01
done
target_port=$(head -n 1 "$log.target")

start tcp_proxy "localhost:$target_port"
refused_ports "localhost:$target_port"
for bad in "" localhost :80 localhost: localhost:0 localhost:http; do
  refused "HOST:PORT" "$((port + 1))" "$bad"
done

# The client closes its side first: the answer still comes.
answer=$(perl -MIO::Socket::INET -e '
  my $peer = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die $!;
  print $peer "count\n", "x" x 1000000;
  $peer->flush;
  $peer->shutdown(1);
  print <$peer>' "$port") || fail "tcp_proxy: no connection"
[[ $answer == 1000000 ]] || fail "tcp_proxy: \"$answer\" of 1000000 bytes"

# The server closes its side first: it still gets what comes.
answer=$(perl -MIO::Socket::INET -e '
  my $peer = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die $!;
  print $peer "greet\n";
  $peer->flush;
  print <$peer>;
  print $peer "x" x 2000000' "$port") || fail "tcp_proxy: no connection"
[[ $answer == hello ]] || fail "tcp_proxy: \"$answer\" is no greeting"
for ((i = 0; i != 400; ++i)); do
  ! grep -qx 2000000 "$log.target" || break
  sleep 0.05
done
((i < 400)) || fail "tcp_proxy: what came after the server's end is lost"

# A stop ends what is half open; nobody is there afterwards.
connect half
echo "greet" >&"$half" && expect "$half" "hello" && expect_end "$half"
stop
kill "$target"
wait "$target" || true
target=
start tcp_proxy "localhost:$target_port"
connect nobody
expect_end "$nobody"
stop
grep -q "no connection to localhost:$target_port" "$log" ||
  fail "tcp_proxy: $(cat "$log")"

# --- migrate: four servers, one behaviour ------------------------------------

for sample in migrate/*; do
  [[ -f $sample && -x $sample ]] || continue
  start "$sample"
  refused_ports

  connect one
  connect two
  echo "count" >&"$one" && expect "$one" "0"
  echo "set colour dark red" >&"$one" && expect "$one" "ok"
  echo "get colour" >&"$two" && expect "$two" "dark red"
  echo "get shape" >&"$two" && expect "$two" "none"
  echo "paint it black" >&"$two" && expect "$two" "what?"

  # Many commands in one packet, one command in many.
  printf 'count\r\nget colour\nset shape round\ncount\n' >&"$one"
  expect "$one" "1" "dark red" "ok" "2"
  for part in g et " sh" ape $'\n'; do printf '%s' "$part" >&"$one"; done
  expect "$one" "round"

  # A watcher is told of others' changes, and of its own before the answer.
  echo "watch colour" >&"$one" && expect "$one" "ok"
  echo "set colour light blue" >&"$two" && expect "$two" "ok"
  expect "$one" "changed colour light blue"
  echo "set shape square" >&"$two" && expect "$two" "ok"
  echo "set colour green" >&"$one"
  expect "$one" "changed colour green" "ok"

  # Two at once change what one watches: each one's changes in their order.
  connect three
  seq -f 'set colour two%g' 200 >&"$two" &
  seq -f 'set colour three%g' 200 >&"$three" &
  told=$(timeout 20 head -n 400 <&"$one") || fail "$name: fewer were told"
  for who in two three; do
    diff <(seq -f "changed colour $who%g" 200) <(grep " $who" <<<"$told") ||
      fail "$name: told in another order"
  done
  # What it was told last is what is there.
  for ((i = 0; i != 200; ++i)); do expect "$two" "ok"; done
  for ((i = 0; i != 200; ++i)); do expect "$three" "ok"; done
  echo "get colour" >&"$three"
  expect "$three" "$(tail -n 1 <<<"$told" | sed 's/^changed colour //')"

  # It ends properly, or in the middle of a line, or without reading.
  echo "quit" >&"$two" && expect "$two" "bye" && expect_end "$two"
  connect four
  printf 'watch colour\nset colour bl' >&"$four" && expect "$four" "ok"
  hang_up "$four"
  hang_up "$one"
  echo "set colour grey" >&"$three" && expect "$three" "ok"

  # Who sends a line without an end is sent away.
  connect five
  head -c 5000 /dev/zero | tr '\0' x >&"$five" || true
  read -r -t 20 -u "$five" 2>/dev/null || [[ $? -eq 1 ]] ||
    fail "$name: takes a line that is too long"
  echo "count" >&"$three" && expect "$three" "2"

  # SIGTERM with open connections, one that watches and one that is silent.
  connect six
  echo "watch shape" >&"$three" && expect "$three" "ok"
  stop
  expect_end "$three"
done
