#!/bin/sh
# Compares the program with the Python originals: sh tests/parity/run_live.sh [arguments of run_live.py]
# XT_PARITY_VENV: a Python environment to make and use; default build/parity-venv. XT_PARITY_RELEASE: another release of
# x-transformers than 2.16.1, in an environment of its own beside it: 2.31.10.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${XT_PARITY_VENV:-$here/../../build/parity-venv}
python=$venv/bin/python
if ! "$python" -c 'import torch, safetensors, x_transformers, frozendict, flash_pytorch, scipy' 2>/dev/null; then
  echo "making $venv" >&2
  python3 -m venv "$venv"
  # The CPU wheel is enough and a tenth of the size; any other index works too.
  "$python" -m pip install --quiet torch==2.11.0 ${XT_PARITY_INDEX:+--index-url "$XT_PARITY_INDEX"}
  "$python" -m pip install --quiet x-transformers==2.16.1 frozendict safetensors numpy einx einops loguru packaging \
    torch-einops-utils FLASH-pytorch==0.1.9 rotary-embedding-torch==0.9.1 scipy
fi
release=${XT_PARITY_RELEASE:-2.16.1}
if [ "$release" != 2.16.1 ]; then
  packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  other=$venv-$release
  if [ ! -d "$other" ]; then
    echo "making $other" >&2
    "$python" -m venv "$other"
    own=$("$other/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$packages" > "$own/shared.pth"
    "$python" -m pip install --quiet --no-deps --target "$own" "x-transformers==$release" torch-einops-utils==0.2.0
  fi
  python=$other/bin/python
fi
exec "$python" -B "$here/run_live.py" --release "$release" "$@"
