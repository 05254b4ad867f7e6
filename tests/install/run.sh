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
configure() { # NAME ARGUMENTS...; no Python is active that could have LibTorch
  cmake -G Ninja -S "$folder" -B "$folder/$1" -DCMAKE_BUILD_TYPE=Release -D_libtorch_python=false --no-warn-unused-cli "${@:2}"
}
libtorch=$(sed -n 's|^LibTorch_INCLUDE_DIR:PATH=\(.*\)/include$|\1|p' "$build/CMakeCache.txt")
package=$(dirname "$(find "$folder/prefix" -name x_transformersConfig.cmake)")
for place in "$build" "$folder/first" "$libtorch"; do
  if grep -rn "$place" "$package"; then
    echo "install test: the package names folders of the machine that built it" >&2
    exit 1
  fi
done
# What is missing is said, and what mends it.
if configure without -DCMAKE_PREFIX_PATH="$folder/prefix" >"$folder/without.log" 2>&1 ||
  ! tr -s ' \n' ' ' <"$folder/without.log" | grep "Could NOT find LibTorch.*Set LIBTORCH_ROOT to the folder of LibTorch"; then
  cat "$folder/without.log"
  echo "install test: expected a message about LibTorch" >&2
  exit 1
fi
if [ -d "$libtorch/share/cmake/Torch" ]; then
  configure torch_dir -DCMAKE_PREFIX_PATH="$folder/prefix" -DTorch_DIR="$libtorch/share/cmake/Torch" >"$folder/torch_dir.log" || {
    cat "$folder/torch_dir.log"
    exit 1
  }
fi
configure build -DCMAKE_PREFIX_PATH="$folder/prefix;$libtorch"
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
