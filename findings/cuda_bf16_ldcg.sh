#!/usr/bin/env bash
# CUDA 13.0 (nvcc 13.0.88): __ldcg of a __nv_bfloat16 or a __half is taken out of a loop and reads once, where that of a
# float reads at each turn.
#
# In cuda_bf16.hpp and cuda_fp16.hpp it is an asm statement without volatile and without "memory", so that for the compiler
# its value follows from the address alone; that of float is asm volatile. Seen in the PTX for sm_90: a loop that reads
# a number after each __syncthreads() (what other threads wrote), one that polls a flag and one thread's loop that reads
# what it wrote itself a turn ago all have ld.global.cg in the loop for float, and before it for the 16-bit types: they go
# on with the first value, the poll for ever. The last one has no race in it, and an ordinary *p is right there. __ldcv
# names "memory" and stays in the loop. __ldca and __ldcs of these headers are written as __ldcg is. So a kernel that is
# right in float32 is wrong when it becomes a template on the type, and no compiler warns. What we saw ourselves, in a large
# kernel and not shown here: an illegal memory access, as a bfloat16 load under a test for null was made before that test.
# No GPU is needed: the kernels are compiled, and not run.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
folder=$(mktemp -d)
toolkit=$("$python" -c 'import os, sysconfig; print(os.path.join(sysconfig.get_paths()["purelib"], "nvidia", "cu13"))')
cat >"$folder/loads.cu" <<'CU'
#include <cuda_bf16.h>
#include <cuda_fp16.h>

struct Cg {
  template <class T> static __device__ float read(const T* p) { return float(__ldcg(p)); }
};
struct Cv {
  template <class T> static __device__ float read(const T* p) { return float(__ldcv(p)); }
};

template <class Load, class T> __device__ void synchronized(const T* p, float* out, int n) {
  float sum = 0;
#pragma unroll 1
  for (int i = 0; i < n; ++i) {
    __syncthreads();
    sum += Load::read(p);
  }
  *out = sum;
}

template <class Load, class T> __device__ void polled(const T* flag, float* out) {
  int turns = 0;
  while (Load::read(flag) == 0) ++turns;
  *out = turns;
}

template <class Load, class T> __device__ void own(T* p, float* out, int n) {
#pragma unroll 1
  for (int i = 0; i < n; ++i) {
    out[i] = Load::read(p);
    *p = T(float(i));
  }
}

#define KERNELS(load, T, name)                                                                                     \
  extern "C" __global__ void synchronized_##name(const T* p, float* out, int n) { synchronized<load>(p, out, n); } \
  extern "C" __global__ void polled_##name(const T* p, float* out) { polled<load>(p, out); }                       \
  extern "C" __global__ void own_##name(T* p, float* out, int n) { own<load>(p, out, n); }
KERNELS(Cg, float, ldcg_float)
KERNELS(Cg, __nv_bfloat16, ldcg_bfloat16)
KERNELS(Cg, __half, ldcg_half)
KERNELS(Cv, __nv_bfloat16, ldcv_bfloat16)
CU
"$toolkit/bin/nvcc" --version | grep release
"$toolkit/bin/nvcc" -arch=sm_90 -O3 -ptx "$folder/loads.cu" -o "$folder/loads.ptx"
"$python" - "$folder/loads.ptx" <<'PY'
import re
import sys

kernels = {}
for line in open(sys.argv[1]):
    if entry := re.search(r'\.entry (\w+)', line):
        lines = kernels[entry[1]] = []
    elif kernels:
        lines.append(line.strip())

for kernel, lines in sorted(kernels.items()):
    labels = {line[:-1]: at for at, line in enumerate(lines) if re.fullmatch(r'\$\w+:', line)}
    jumps = [(at, labels[jump[1]]) for at, line in enumerate(lines) if (jump := re.search(r'\bbra\S*\s+(\$\w+);', line))]
    loops = [range(to, at) for at, to in jumps if to < at]
    assert len(loops) == 1, kernel
    loads = [at for at, line in enumerate(lines) if re.match(r'ld\.global\.c[gv]', line)]
    before, within = sum(at < loops[0].start for at in loads), sum(at in loops[0] for at in loads)
    print(f'{kernel}: {before} loads before the loop, {within} in it')
    assert before + within == len(loads) > 0
    stays = kernel.endswith(('ldcg_float', 'ldcv_bfloat16'))
    assert (within == 1) if stays else (within == 0), 'another place than it was'
assert len(kernels) == 12
PY
echo "as described"
