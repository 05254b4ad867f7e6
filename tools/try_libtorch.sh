#!/usr/bin/env bash
# Builds and tests with other releases of LibTorch than the one that everything else uses, one after the other:
#
#   tools/try_libtorch.sh [VERSION ...]      default: the newest release on PyPI
#   tools/try_libtorch.sh --list             the releases there are, from 2.11 on
#
# Each wheel goes into .deps/libtorch-VERSION (0.5 GB), each build into build-libtorch-VERSION. A line for each says what
# came of it; the logs stand in the build folders. Exit code 1: one of them failed. For a machine that has a night to spare.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

releases() { # from 2.11 on, oldest first
  python3 -m pip index versions torch --disable-pip-version-check 2>/dev/null |
    sed -n 's/^Available versions: //p' | tr ',' '\n' | tr -d ' ' |
    awk -F. '$1 > 2 || ($1 == 2 && $2 >= 11)' | sort -V
}

fetch() { # VERSION FOLDER: the wheel, and what its libtorch_cpu is linked against
  [ ! -e "$2/torch/lib/libtorch_cpu.so" ] || return 0
  mkdir -p "$2"
  python3 -m pip install --quiet --disable-pip-version-check --target "$2" --no-compile --only-binary=:all: --no-deps "torch==$1"
  if ldd "$2/torch/lib/libtorch_cpu.so" | grep 'not found' >/dev/null; then
    # The versions that the wheel's own metadata names.
    python3 -m pip install --quiet --disable-pip-version-check --target "$2" --upgrade --no-compile --only-binary=:all: "torch==$1"
  fi
}

try() { # VERSION: prints what failed
  local version=$1 folder=$root/.deps/libtorch-$1 build=$root/build-libtorch-$1
  mkdir -p "$build"
  fetch "$version" "$folder" >"$build/log" 2>&1 || { echo "the wheel cannot be fetched"; return 1; }
  LIBTORCH_ROOT=$folder cmake --preset release -B "$build" >>"$build/log" 2>&1 || { echo "cmake failed"; return 1; }
  cmake --build "$build" -j "$(tools/jobs.sh)" >>"$build/log" 2>&1 || { echo "the build failed"; return 1; }
  ctest --test-dir "$build" -j "$(nproc)" >>"$build/log" 2>&1 || { echo "tests failed"; return 1; }
  tests/install/run.sh "$build" >>"$build/log" 2>&1 || { echo "the install test failed"; return 1; }
}

if [ "${1:-}" = --list ]; then
  releases
  exit 0
fi
case ${1:-} in -*) echo "try_libtorch: unknown argument '$1' (there is --list)" >&2 && exit 2 ;; esac
versions=("$@")
if [ ${#versions[@]} -eq 0 ]; then
  mapfile -t versions < <(releases | tail -n 1)
  [ ${#versions[@]} -gt 0 ] || { echo "try_libtorch: pip lists no release of torch from 2.11 on" >&2 && exit 2; }
fi
status=0
for version in "${versions[@]}"; do
  if reason=$(try "$version"); then
    echo "LibTorch $version: works"
  else
    echo "LibTorch $version: $reason (build-libtorch-$version/log)"
    status=1
  fi
done
exit $status
