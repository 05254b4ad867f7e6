// Which instruction set the CPU kernels run on: found at run time, so that one binary serves every
// machine.
#pragma once

#include <vector>

namespace x_transformers::kernels {

/// The instruction sets that every kernel is compiled for. `baseline` is what the compiler targets
/// by default (SSE2 on x86-64, NEON on 64-bit ARM, else whatever the compiler makes of four-float
/// vectors).
enum class Isa { baseline, avx2, avx512 };

/// The best one that this machine can run, unless `use_isa` named another.
Isa current_isa();

/// All that this machine can run, `baseline` first.
const std::vector<Isa>& usable_isas();

/// Makes all kernels run on `isa` from now on, for tests and benchmarks.
/// Throws std::invalid_argument where this machine cannot run it.
void use_isa(Isa isa);

/// "baseline", "avx2" or "avx512".
const char* name_of(Isa isa);

}  // namespace x_transformers::kernels
