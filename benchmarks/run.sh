#!/bin/sh
# What `make bench` runs: our operations against ATen's compositions, then the program against Python x-transformers: training
# and generation at two shapes, and a training step with each option.
# sh benchmarks/run.sh BUILD_FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-build}
[ -x "$build/benchmarks/ops_bench" ] && "$build/benchmarks/ops_bench" --benchmark_min_time=0.2
venv=${XT_PARITY_VENV:-$build/parity-venv}
"$here/../tests/parity/run_live.sh" --filter NOTHING --random 0 >/dev/null 2>&1 || true  # makes the environment
"$venv/bin/python" -B "$here/compare.py" --program "$build/x-transformers"
exec "$venv/bin/python" -B "$here/options.py" --program "$build/x-transformers"
