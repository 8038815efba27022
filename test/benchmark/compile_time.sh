#!/bin/sh
# Compile times of a source with one actor and <actors/actors.hpp>, of one with
# <asio.hpp> alone, and of an actor with 64 handlers: medians of 5, as a table
# in Markdown. They take turns, so that a busy minute meets all of them.
#
#   test/benchmark/compile_time.sh [COMPILER]     default: $CXX, or g++
#
# ASIO_INCLUDE_DIR names the directory of asio.hpp where the compiler does not
# find it by itself.
# shellcheck disable=SC2016  # backquotes are Markdown's
set -eu

compiler=${1:-${CXX:-g++}}
include=$(cd "$(dirname "$0")/../../include" && pwd)
runs=5
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cat > "$dir/one_actor.cpp" << 'END'
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};

actors::task<> account(actors::context<deposit, get_balance> self,
                       int balance) {
  co_await self.serve([&](deposit d) { balance += d.amount; },
                      [&](get_balance) { return balance; });
}

int main() {
  actors::actor_system system{{.threads = 2}};
  auto alice = system.spawn(account, 100);
  alice.tell(deposit{50});
  return alice.ask<get_balance>().get() == 150 ? 0 : 1;
}
END

cat > "$dir/asio_alone.cpp" << 'END'
#include <asio.hpp>

int main() {}
END

{
  echo '#include <actors/actors.hpp>'
  list=
  for i in $(seq 64); do
    echo "struct message_$i { int n; };"
    list="$list${list:+, }message_$i"
  done
  echo "actors::task<> many(actors::context<$list> self) {"
  echo '  int sum = 0;'
  echo '  co_await self.serve('
  for i in $(seq 64); do
    test "$i" = 64 && end=');' || end=','
    echo "      [&](message_$i m) { sum += m.n; }$end"
  done
  echo '}'
  echo 'int main() {'
  echo '  actors::actor_system system;'
  echo '  system.spawn(many).tell(message_64{1});'
  echo '}'
} > "$dir/handlers_64.cpp"

# milliseconds SOURCE OPTIMISATION
milliseconds() {
  start=$(date +%s%N)
  "$compiler" -std=c++20 "$2" -I"$include" \
    ${ASIO_INCLUDE_DIR:+-I"$ASIO_INCLUDE_DIR"} \
    -DASIO_STANDALONE -DASIO_HAS_CO_AWAIT=1 \
    -c "$dir/$1.cpp" -o "$dir/$1.o"
  end=$(date +%s%N)
  echo $(((end - start) / 1000000))
}

sources='one_actor asio_alone handlers_64'
for level in -O0 -O2; do
  for source in $sources; do milliseconds "$source" "$level" > /dev/null; done
  for _ in $(seq "$runs"); do
    for source in $sources; do
      milliseconds "$source" "$level" >> "$dir/$source$level"
    done
  done
done

median() {
  sort -n "$dir/$1" | sed -n "$(((runs + 1) / 2))p" |
    awk '{ printf "%.2f s", $1 / 1000 }'
}

echo "| $("$compiler" --version | head -n 1) | -O0 | -O2 |"
echo '| --- | --- | --- |'
row() { echo "| $2 | $(median "$1-O0") | $(median "$1-O2") |"; }
row one_actor 'one actor, `<actors/actors.hpp>`'
row asio_alone '`<asio.hpp>` alone'
row handlers_64 'one actor with 64 handlers'
