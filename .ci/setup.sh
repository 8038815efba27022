# What samples/run and test/run share: installing what is missing, and doing
# long things quietly. Sourced by bash with `set -euo pipefail`.
# shellcheck shell=bash

CXX_PROBE=${CXX:-g++}
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}

# Says in one line why it is over, and ends.
die() {
  printf '%s: %s\n' "$0" "$*" >&2
  exit 1
}

# phase LABEL COMMAND...: runs the command with one line of progress on standard
# error. Its output is shown when it fails, and that is the end.
phase() {
  local label=$1 log start=$SECONDS
  shift
  log=$(mktemp)
  printf '%s ... ' "$label" >&2
  if "$@" >"$log" 2>&1 </dev/null; then
    printf '%d s\n' $((SECONDS - start)) >&2
    rm -f "$log"
  else
    printf 'failed after %d s\n' $((SECONDS - start)) >&2
    cat "$log" >&2
    rm -f "$log"
    exit 1
  fi
}

# --- What is needed ----------------------------------------------------------

has_program() { command -v "$1" >/dev/null; }

has_header() {
  printf '#if !__has_include(<%s>)\n#error missing\n#endif\n' "$1" |
    "$CXX_PROBE" -std=c++20 -x c++ -E - >/dev/null 2>&1
}

has_cmake() {  # 3.25 or later
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')
  [[ $(printf '3.25\n%s\n' "$version" | sort -V | head -n 1) == 3.25 ]]
}

has_openbsd_nc() { [[ $(nc -h 2>&1) == *OpenBSD* ]]; }

# need PACKAGE PROBE...: the Debian package is needed unless the probe succeeds.
needed=()
need() {
  local line
  for line in "${needed[@]}"; do [[ $line != "$*" ]] || return 0; done
  needed+=("$*")
}

need g++ has_program "$CXX_PROBE"
need cmake has_cmake
need ninja-build has_program ninja
need libasio-dev has_header asio.hpp
need libfmt-dev has_header fmt/format.h

# Sets `missing` to the packages whose probes fail.
find_missing() {
  local line package
  local -a probe
  missing=()
  for line in "${needed[@]}"; do
    read -r -a probe <<<"$line"
    package=${probe[0]}
    "${probe[@]:1}" || missing+=("$package")
  done
}

apt_install() {
  local as_root=(env DEBIAN_FRONTEND=noninteractive)
  [[ $EUID -eq 0 ]] || as_root=(sudo "${as_root[@]}")
  local install=("${as_root[@]}" apt-get install -y -qq
    --no-install-recommends -o DPkg::Lock::Timeout=120 "$@")
  "${as_root[@]}" apt-get update -qq && "${install[@]}" && return
  sleep 5 # a mirror that was busy gets a second chance
  "${as_root[@]}" apt-get update -qq && "${install[@]}"
}

# Installs what is needed and not there. Runs nothing when all is there.
install_missing() {
  find_missing
  [[ ${#missing[@]} -gt 0 ]] || return 0
  has_program apt-get ||
    die "please install what Debian calls ${missing[*]}, then run this again"
  [[ $EUID -eq 0 ]] || has_program sudo ||
    die "please install as root: apt-get install ${missing[*]}"
  phase "Installing ${missing[*]}" apt_install "${missing[@]}"
  hash -r
  find_missing
  [[ ${#missing[@]} -eq 0 ]] ||
    die "${missing[*]}: installed, and still not found or too old"
}
