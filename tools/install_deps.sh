#!/usr/bin/env bash
# Installs what the build needs and the machine lacks: Debian packages (as root or with passwordless sudo), and the
# LibTorch wheel into .deps/. Does nothing the second time.
#
#   tools/install_deps.sh [--cuda] [--lint] [--mpi]
#       --mpi: also Open MPI, for training in processes that mpirun starts
#       --cuda: also the CUDA libraries that a run on a GPU needs (about 2.5 GB), and cuDNN's frontend; --lint: also what `make lint` needs
#
# An existing LibTorch is honoured, and nothing is downloaded, where LIBTORCH_ROOT or CMAKE_PREFIX_PATH leads to one.
# Exit code 2: something is missing that only its user can install; one line says what.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
deps=$root/.deps

libtorch_wheel=(torch==2.11.0)
# libtorch_cpu of that wheel is linked against these two, GPU or not.
libtorch_needs=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
# What libtorch_cuda needs: the versions that the wheel's own metadata names.
libtorch_cuda_needs=(
  "cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]==13.0.2"
  nvidia-cudnn-cu13==9.19.0.56 nvidia-cusparselt-cu13==0.8.0 nvidia-nccl-cu13==2.28.9 nvidia-nvshmem-cu13==3.4.5)
# Headers alone: attention with further stages, in the CUDA part.
cudnn_frontend=nvidia-cudnn-frontend==1.32.0

# What is looked for (kind:name), and the Debian package that brings it.
needed=(
  command:c++:g++ command:make:make command:cmake:cmake command:ninja:ninja-build command:pkg-config:pkg-config
  header:nlohmann/json.hpp:nlohmann-json3-dev header:CLI/CLI.hpp:libcli11-dev header:fmt/format.h:libfmt-dev
  header:gtest/gtest.h:libgtest-dev header:gmock/gmock.h:libgmock-dev
  header:sentencepiece_processor.h:libsentencepiece-dev header:stb/stb_image.h:libstb-dev)
# The build goes on without these: pictures of loss curves, `make bench`, quick rebuilds.
wanted=(command:gnuplot:gnuplot-nox header:benchmark/benchmark.h:libbenchmark-dev command:ccache:ccache)

say() { echo "install_deps: $*" >&2; }
refuse() {
  say "$*"
  exit 2
}

with_cuda=no
for argument in "$@"; do
  case $argument in
    --cuda) with_cuda=yes ;;
    --lint) needed+=(clang-format:14:clang-format-14 command:clang-tidy:clang-tidy) ;;
    --mpi) needed+=(command:mpirun:openmpi-bin command:mpicxx:libopenmpi-dev) ;;
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) refuse "unknown argument '$argument' (there are --cuda, --lint and --mpi)" ;;
  esac
done

prefixes=()
[ -z "${LIBTORCH_ROOT:-}" ] || prefixes+=("$LIBTORCH_ROOT")
IFS=':;' read -r -a more_prefixes <<<"${CMAKE_PREFIX_PATH:-}"
for prefix in "${more_prefixes[@]}"; do [ -z "$prefix" ] || prefixes+=("$prefix"); done

# The folder of a LibTorch (it holds lib/ and include/) at `$1`, a prefix in any of the forms that people use.
libtorch_at() {
  local folder
  for folder in "$1" "$1/torch" "$1/libtorch" "$1/../.."; do # the last: a prefix torch/share/cmake
    if [ -e "$folder/lib/libtorch_cpu.so" ] && [ -e "$folder/include/torch/csrc/api/include/torch/nn/module.h" ]; then
      (cd "$folder" && pwd)
      return
    fi
  done
  return 1
}

# Libraries that the LibTorch in folder `$1` needs and the loader does not find, on one line.
unresolved() { { ldd "$1/lib/libtorch_cpu.so" 2>&1 || true; } | awk '/not found/ {print $1}' | sort -u | paste -sd ' '; }

is_there() { # command NAME, header NAME or clang-format VERSION
  local prefix
  case $1 in
    command) command -v "$2" >/dev/null ;;
    clang-format) command -v "clang-format-$2" >/dev/null || clang-format --version 2>/dev/null | grep -q " version $2\." ;;
    header)
      for prefix in "${prefixes[@]}" /usr /usr/local; do
        [ ! -e "$prefix/include/$2" ] || return 0
      done
      return 1
      ;;
  esac
}

packages_missing() { # of items as in the lists above
  local item kind name package
  for item in "$@"; do
    IFS=: read -r kind name package <<<"$item"
    is_there "$kind" "$name" || echo "$package"
  done
}

twice() { # a failed download is tried once more
  "$@" || {
    say "that failed; once more in 5 seconds"
    sleep 5
    "$@"
  }
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" >&2; }
may_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

install_packages() {
  local required optional
  mapfile -t required < <(packages_missing "${needed[@]}")
  mapfile -t optional < <(packages_missing "${wanted[@]}")
  if [ -z "$libtorch" ] && ! python3 -m pip --version >/dev/null 2>&1; then required+=(python3-pip); fi
  [ $((${#required[@]} + ${#optional[@]})) -gt 0 ] || return 0
  if may_install; then
    say "installing ${required[*]} ${optional[*]}"
    twice apt_get -q update
    twice apt_get -q install -y --no-install-recommends "${required[@]}" "${optional[@]}"
  elif [ ${#required[@]} -gt 0 ]; then
    refuse "please install, as root: apt-get install ${required[*]} ${optional[*]}"
  else
    say "going on without ${optional[*]} (as root: apt-get install ${optional[*]})"
  fi
}

check_versions() {
  local found
  found=$(cmake --version | awk 'NR == 1 {print $3}')
  printf '3.22\n%s\n' "$found" | sort -CV || refuse "cmake 3.22 or newer is needed, found $found"
}

pip_into_deps() { # pip puts everything beside and moves it in place at the end, in one file system
  local python_choice=()
  if ! python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))'; then
    python_choice=(--python-version 3.12) # only the C++ library in the wheel matters, not which Python it is for
  fi
  mkdir -p "$deps/tmp"
  TMPDIR=$deps/tmp PIP_USER=0 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
    python3 -m pip install --target "$deps" --upgrade --no-compile --only-binary=:all: "${python_choice[@]}" "$@" >&2
}

install_libtorch() {
  local missing
  if ! libtorch=$(libtorch_at "$deps") || ! grep -qs "^__version__ = '2\.11\.0" "$libtorch/version.py"; then
    say "fetching ${libtorch_wheel[*]} into .deps/ (about 0.5 GB)"
    twice pip_into_deps --no-deps "${libtorch_wheel[@]}"
    libtorch=$(libtorch_at "$deps") || refuse "the wheel ${libtorch_wheel[*]} brought no LibTorch into $deps"
  fi
  if [ $with_cuda = yes ] && [ ! -d "$deps/nvidia/nccl" ]; then
    say "fetching the CUDA libraries into .deps/"
    twice pip_into_deps "${libtorch_cuda_needs[@]}"
    twice pip_into_deps --no-deps "$cudnn_frontend"
  elif [ -n "$(unresolved "$libtorch")" ]; then
    twice pip_into_deps --no-deps "${libtorch_needs[@]}"
  fi
  rm -rf "$deps/tmp"
  missing=$(unresolved "$libtorch")
  [ -z "$missing" ] || refuse "LibTorch in $libtorch needs libraries that are not there: $missing"
}

# The stamp names what was asked for and the LibTorch that was found.
stamp=$deps/stamp
asked="$(cksum <"${BASH_SOURCE[0]}") cuda=$with_cuda prefixes=${prefixes[*]}"
up_to_date() {
  local was_asked was_found
  [ -e "$stamp" ] && { read -r was_asked && read -r was_found; } <"$stamp" &&
    [ "$was_asked" = "$asked" ] && [ -e "$was_found/lib/libtorch_cpu.so" ] &&
    [ -z "$(packages_missing "${needed[@]}")" ] # --lint and --mpi ask for more
}
if up_to_date; then exit 0; fi

mkdir -p "$deps"
exec 9>"$deps/lock" # two builds started at once do this one after the other
flock 9
if up_to_date; then exit 0; fi

libtorch=
for prefix in "${prefixes[@]}"; do
  libtorch=$(libtorch_at "$prefix") && break
done
if [ -z "$libtorch" ] && [ -n "${LIBTORCH_ROOT:-}" ]; then
  refuse "LIBTORCH_ROOT=$LIBTORCH_ROOT: no lib/libtorch_cpu.so and include/torch there, nor in torch/ or libtorch/ below"
fi
install_packages
check_versions
if [ -n "$libtorch" ]; then
  say "using the LibTorch in $libtorch"
else
  install_libtorch
fi
printf '%s\n%s\n' "$asked" "$libtorch" >"$stamp"
