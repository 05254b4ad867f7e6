// How the C library and LibTorch treat the memory of tensors.
#pragma once

namespace x_transformers::kernels {

/// Makes malloc keep freed memory for later tensors in place of giving it back to the system. A
/// program that trains calls this once when it starts: otherwise every tensor above some megabytes
/// is mapped anew in every step, and the page faults cost more than many an op that fills the
/// tensor (a tenth of a CPU training step at dim 384). Returns false where the C library has no
/// such switch (it needs glibc).
bool keep_freed_memory();

/// Makes LibTorch put tensors of 2 MB and more into transparent huge pages, where the system has
/// them: fewer page faults and fewer misses of the address cache. It does so by the environment
/// variable THP_MEM_ALLOC_ENABLE, which LibTorch reads once, at its first tensor; so this must come
/// before, and before the program has threads. What the user set stays.
void prefer_huge_pages();

}  // namespace x_transformers::kernels
