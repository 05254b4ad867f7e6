#!/usr/bin/env bash
# CUDA 13.0 (nvcc 13.0.88, CCCL 13.0.85), sm_90: whoever waits for a flag by acquiring loads empties the first-level cache of
# the multiprocessor at each look, cooperative_groups' grid barrier and cuda::atomic_ref among them.
#
# An acquiring load of device scope is compiled to a plain load of the second level and CCTL.IVALL, which invalidates the
# whole first level. In a loop that polls, both are in the loop: ld.acquire.gpu, cuda::atomic_ref::load(memory_order_acquire),
# cuda::atomic_ref::wait and this_grid().sync() do so as often as they look. A relaxed load, or an acquiring one of block
# scope, leaves the cache alone. So while one block waits, others on the same multiprocessor lose what they keep there,
# registers spilled to local memory among it: in a profile of a persistent kernel of ours on an H200 (not shown here)
# CCTL.IVALL was among the instructions that most warps stalled at, and so were reads of spilled registers behind it. What is
# read afterwards past the first level needs no invalidation; else one fence behind the loop does it once.
# No GPU is needed: the kernels are compiled, and not run.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.51
folder=$(mktemp -d)
toolkit=$("$python" -c 'import os, sysconfig; print(os.path.join(sysconfig.get_paths()["purelib"], "nvidia", "cu13"))')
cat >"$folder/polls.cu" <<'CU'
#include <cooperative_groups.h>

#include <cuda/atomic>

using Flag = cuda::atomic_ref<unsigned, cuda::thread_scope_device>;

#define POLL(name, load)                                                                            \
  extern "C" __global__ void name(const unsigned* flag, float* out) {                               \
    unsigned seen;                                                                                  \
    do asm volatile(load " %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");                         \
    while (seen == 0);                                                                              \
    *out = 1;                                                                                       \
  }
POLL(acquire, "ld.acquire.gpu.global.u32")
POLL(relaxed, "ld.relaxed.gpu.global.u32")
POLL(acquire_in_block, "ld.acquire.cta.global.u32")

extern "C" __global__ void atomic_ref_load(unsigned* flag, float* out) {
  while (Flag(*flag).load(cuda::std::memory_order_acquire) == 0) {
  }
  *out = 1;
}
extern "C" __global__ void atomic_ref_wait(unsigned* flag, float* out) {
  Flag(*flag).wait(0, cuda::std::memory_order_acquire);
  *out = 1;
}
extern "C" __global__ void grid_sync(float* out) {
  cooperative_groups::this_grid().sync();
  *out = 1;
}
CU
"$toolkit/bin/nvcc" --version | grep release
"$toolkit/bin/nvcc" -arch=sm_90 -O3 -std=c++17 -cubin "$folder/polls.cu" -o "$folder/polls.cubin"
PATH="$toolkit/bin:$PATH" cuobjdump -sass "$folder/polls.cubin" >"$folder/polls.sass" 2>/dev/null
"$python" - "$folder/polls.sass" <<'PY'
import re
import sys

kernels = {}
for line in open(sys.argv[1]):
    if name := re.search(r'Function : (\w+)', line):
        code = kernels[name[1]] = []
    elif found := re.search(r'/\*([0-9a-f]{4})\*/\s+(.*?);', line):
        code.append((int(found[1], 16), found[2]))

for kernel, code in sorted(kernels.items()):
    jumps = [(at, int(jump[1], 16)) for at, text in code if (jump := re.search(r'BRA (0x[0-9a-f]+)', text))]
    loops = [range(to, at) for at, to in jumps if to < at]
    assert loops, kernel
    within = lambda word: sum(any(at in loop for loop in loops) for at, text in code if re.search(word, text))
    loads, emptied = within(r'\bLDG?\.E\S*STRONG'), within('CCTL.IVALL')
    print(f'{kernel}: {loads} looks in loops, {emptied} times the first level is emptied')
    assert loads > 0, kernel
    assert emptied == (0 if kernel in ('relaxed', 'acquire_in_block') else loads), 'other than it was'
assert len(kernels) == 6
PY
echo "as described"
