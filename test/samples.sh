#!/usr/bin/env bash
# Runs the samples as their users do.
#
#   test/samples.sh DIRECTORY [TIMES]
#
# DIRECTORY has the programs; `hello` is run TIMES times, 1,000 by default.
set -euo pipefail

cd "$1"
times=${2-1000}

fail() {
  echo "$*" >&2
  exit 1
}

# --- hello: its line each time -----------------------------------------------

for ((i = 0; i != times; ++i)); do
  [[ $(./hello) == "Hello world" ]] || fail "hello: not its line, run $i"
done

# --- ask ---------------------------------------------------------------------

./ask >/dev/null || fail "ask: ended with $?"

# --- echo_server -------------------------------------------------------------

log=$(mktemp)
server=
trap '[[ -z $server ]] || kill -KILL "$server"; rm -f "$log"' EXIT

# On the first port that is free.
for ((;;)); do
  port=$((20000 + RANDOM % 20000))
  ./echo_server "$port" >"$log" 2>&1 &
  server=$!
  until grep -q . "$log"; do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.01
  done
  grep -q "listening on port $port" "$log" && break
  status=0
  wait "$server" || status=$?
  [[ $status -eq 2 ]] || fail "echo_server: $status: $(cat "$log")"
done

# What is refused: one line that says so, and status 2.
refused() {
  local status=0 said
  said=$(./echo_server "${@:2}" 2>&1) || status=$?
  [[ $status -eq 2 ]] || fail "echo_server ${*:2}: status $status, not 2"
  [[ $(wc -l <<<"$said") -eq 1 && $said == *"$1"* ]] ||
    fail "echo_server ${*:2}: said \"$said\""
}
refused "port $port" "$port"  # taken
refused "a number" seven
refused "a number" 0
refused "a number" 65536
refused "a number"

# 1,000 lines: the same come back.
exec {line}<>"/dev/tcp/localhost/$port"
seq -f 'line %g' 1000 >&"$line" &
diff <(seq -f 'line %g' 1000) <(head -n 1000 <&"$line") ||
  fail "echo_server: other lines came back"
exec {line}>&-

# SIGTERM with 50 idle connections: a clean end that says what it closes.
for ((i = 0; i != 50; ++i)); do
  exec {idle}<>"/dev/tcp/localhost/$port"
  echo "here" >&"$idle"
  read -r said <&"$idle"  # it has been accepted
done
kill -TERM "$server"
status=0
wait "$server" || status=$?
server=
[[ $status -eq 0 ]] || fail "echo_server: ended with $status on SIGTERM"
grep -q "closed 50 connections" "$log" || fail "echo_server: $(cat "$log")"
