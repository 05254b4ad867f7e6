#!/usr/bin/env bash
# Installs the build in BUILD_DIR (default: build) into a temporary folder, then builds and runs the consumer project
# beside this script with nothing but that folder: tests/install/run.sh [BUILD_DIR]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Without the tree's .deps/ and environment in the way, and moved to another place than it was installed in.
unset LIBTORCH_ROOT CMAKE_PREFIX_PATH
cmake --install "$build" --prefix "$folder/first" >"$folder/install.log" || {
  cat "$folder/install.log"
  exit 1
}
mv "$folder/first" "$folder/prefix"
cp "$here/CMakeLists.txt" "$here/consumer.cpp" "$folder/"
configure() { cmake -G Ninja -S "$folder" -B "$folder/$1" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$2"; }
# By default the package finds the LibTorch that it was built with, or that of the Python that is active.
configure default "$folder/prefix" >"$folder/default.log" || {
  cat "$folder/default.log"
  exit 1
}
# Without the build's own place, which another machine has not, it is where CMAKE_PREFIX_PATH says.
libtorch=$(sed -n 's|^LibTorch_INCLUDE_DIR:PATH=\(.*\)/include$|\1|p' "$build/CMakeCache.txt")
config=$(find "$folder/prefix" -name x_transformersConfig.cmake)
if grep -rn "$build" "$(dirname "$config")" || grep -rn "$folder/first" "$(dirname "$config")"; then
  echo "install test: the package names folders of the build" >&2
  exit 1
fi
sed -i '/set(x_transformers_LIBTORCH/d' "$config"
configure build "$folder/prefix;$libtorch"
cmake --build "$folder/build"

for program in consumer consumer_on_teams; do
  output=$("$folder/build/$program")
  echo "$program: $output"
  [ "$output" = "logits: [2, 16, 256]" ] || {
    echo "install test: expected 'logits: [2, 16, 256]' of $program" >&2
    exit 1
  }
done
# Whose parallel regions are they? A program that asks for none of ours has libgomp's.
has_regions() { nm -D --defined-only "$1" | grep ' T GOMP_parallel$' >/dev/null; } # not -q: nm would fail on its pipe
if has_regions "$folder/build/consumer"; then
  echo "install test: a program that does not link x_transformers::threads has its regions" >&2
  exit 1
fi
if has_regions "$folder/prefix/bin/x-transformers" && ! has_regions "$folder/build/consumer_on_teams"; then
  echo "install test: a program that links x_transformers::threads does not have its regions" >&2
  exit 1
fi
"$folder/prefix/bin/x-transformers" --help >/dev/null
# The README shows this very program.
python3 - "$here/consumer.cpp" "$here/../../README.md" <<'PYTHON'
import sys
program, readme = (open(path).read() for path in sys.argv[1:])
if program.strip() not in readme:
    sys.exit("install test: the C++ program in README.md is not tests/install/consumer.cpp")
PYTHON
echo "install test: passed"
