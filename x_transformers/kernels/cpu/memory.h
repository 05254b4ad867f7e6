// How the C library treats the memory of tensors.
#pragma once

namespace x_transformers::kernels {

/// Makes malloc keep freed memory for later tensors in place of giving it back to the system. A
/// program that trains calls this once when it starts: otherwise every tensor above some megabytes
/// is mapped anew in every step, and the page faults cost more than many an op that fills the
/// tensor (a tenth of a CPU training step at dim 384). Returns false where the C library has no
/// such switch (it needs glibc).
bool keep_freed_memory();

}  // namespace x_transformers::kernels
