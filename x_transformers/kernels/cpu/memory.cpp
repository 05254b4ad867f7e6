#include "x_transformers/kernels/cpu/memory.h"

#include <cstdlib>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace x_transformers::kernels {

bool keep_freed_memory() {
#if defined(__GLIBC__)
  constexpr int kNoMappingBelow = 1 << 30;
  constexpr int kNoMappingBelowInOldGlibc = 1 << 25;  // the most it takes before 2.35
  constexpr int kGrowBy = 1 << 26;
  const bool mapped_less = mallopt(M_MMAP_THRESHOLD, kNoMappingBelow) == 1 ||
                           mallopt(M_MMAP_THRESHOLD, kNoMappingBelowInOldGlibc) == 1;
  return mapped_less && mallopt(M_TRIM_THRESHOLD, -1) == 1 && mallopt(M_TOP_PAD, kGrowBy) == 1;
#else
  return false;
#endif
}

}  // namespace x_transformers::kernels
