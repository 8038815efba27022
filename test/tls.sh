#!/usr/bin/env bash
# TLS connections served by actors, with the client of OpenSSL.
#
#   test/tls.sh SERVER
#
# SERVER is the program made of test/tls/server.cpp.
set -euo pipefail

program=$1
dir=$(mktemp -d)
log=$dir/log
server=
clients=()
trap '{ kill -KILL $server "${clients[@]}" || true; } 2>/dev/null
      rm -rf "$dir"' EXIT

fail() {
  echo "$*" >&2
  [[ ! -e $log ]] || sed 's/^/server: /' "$log" >&2
  tail -n 5 "$dir"/*.errors >&2 || true
  exit 1
}

# wait_for TEXT: until the server's log has a line that is, or begins with, it.
wait_for() {
  local i
  for ((i = 0; i != 400; ++i)); do
    ! grep -q "^$1" "$log" || return 0
    sleep 0.05
  done
  fail "the server does not say \"$1\""
}

# --- A server and its certificate --------------------------------------------

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost \
  -keyout "$dir/key" -out "$dir/cert" 2>"$dir/req.errors" ||
  fail "no certificate"

# On the first port that is free.
for ((;;)); do
  port=$((20000 + RANDOM % 10000))
  "$program" "$port" "$dir/cert" "$dir/key" >"$log" 2>&1 &
  server=$!
  until grep -q . "$log"; do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.01
  done
  ! grep -q "listening on port $port" "$log" || break
  wait "$server" || true
  server=
  grep -q "in use" "$log" || fail "the server does not start"
done

# --- Clients -----------------------------------------------------------------

# connect NAME OPTIONS...: a client that ends, with status 1, where the
# certificate is not to be trusted. What it is to send is written to the
# descriptor in to[NAME], what it gets is read from from[NAME].
declare -A to from pid
connect() {
  local name=$1 write read
  mkfifo "$dir/$name.to" "$dir/$name.from"
  (
    # Not those of the others, who would not see their ends.
    for write in "${to[@]}"; do exec {write}>&-; done
    exec openssl s_client -quiet -no_ign_eof -connect "127.0.0.1:$port" \
      -servername localhost -CAfile "$dir/cert" -verify_return_error \
      -verify_hostname localhost "${@:2}"
  ) <"$dir/$name.to" >"$dir/$name.from" 2>"$dir/$name.errors" &
  pid[$name]=$!
  clients+=($!)
  exec {write}>"$dir/$name.to" {read}<"$dir/$name.from"
  to[$name]=$write from[$name]=$read
}

# say NAME LINE: sends it, and expects it back.
say() {
  local answer=
  echo "$2" >&"${to[$1]}"
  read -r -t 20 -u "${from[$1]}" answer || fail "$1: no answer to \"$2\""
  [[ $answer == "$2" ]] || fail "$1: \"$answer\" came back for \"$2\""
}

# goodbye NAME: it ends the connection, with success.
goodbye() {
  local write=${to[$1]}
  exec {write}>&-
  wait "${pid[$1]}" || fail "$1: failed with status $?"
}

# The first to come is the last to be told to stop: no others are late with it.
connect frozen
say frozen "and out"

# Two at once, line by line.
connect older -tls1_2
connect newer -tls1_3
for i in {1..20}; do
  say older "over TLS 1.2, line $i"
  say newer "over TLS 1.3, line $i"
done

# The end of one is the end of no other.
goodbye older
wait_for "ended by End of file, closed"
say newer "still here"

# What is no TLS fails its own connection.
exec {plain}<>"/dev/tcp/127.0.0.1/$port"
echo "no handshake" >&"$plain"
wait_for "ended by .*\(http request\|version number\|record\)"
exec {plain}>&-
say newer "still here"

# Many records, both ways at the same time.
lines() { seq -f "%090g" 5000; }
lines >&"${to[newer]}" &
diff <(lines) <(timeout 60 head -n 5000 <&"${from[newer]}") >/dev/null ||
  fail "newer: other lines came back"

# --- SIGTERM with open connections -------------------------------------------

kill -STOP "${pid[frozen]}"  # is told of the end, and does not answer
disown "${pid[frozen]}"      # or the shell says that it has been killed
# shellcheck disable=SC2034
exec {silent}<>"/dev/tcp/127.0.0.1/$port"  # has not begun its handshake
wait_for "accepted 5"

kill -TERM "$server"
status=0
wait "$server" || status=$?
server=
[[ $status -eq 0 ]] || fail "ended with $status on SIGTERM"

# The client was told properly: it ends by itself, and well.
wait_for "ended by Operation aborted., closed"
wait "${pid[newer]}" || fail "newer: failed with status $?"
# The stop reached the silent one's handshake; the frozen one was killed.
[[ $(grep -c "^ended by Operation aborted" "$log") -eq 2 ]] ||
  fail "two should have been ended by the stop"
