// Floating-point operations of a piece of code, counted as they are dispatched.
#pragma once

#include <functional>

namespace x_transformers {

struct FlopCount {
  /// Multiplications and additions of matrix products, convolutions and attention: 2 m n k for
  /// [m, k] by [k, n].
  double products = 0;
  /// One for each element that elementwise operations, reductions and softmaxes read or make,
  /// whichever are more. Copies, views, indexing and integers are not counted.
  double elements = 0;

  double total() const { return products + elements; }
};

/// Runs `work` and counts what it dispatches on this thread, on any device and under DryRun too. An
/// operation made of others is counted once, and one of a count within `work` not here.
/// Attention is counted for all pairs of query and key, with a causal mask as without: fused
/// kernels skip nearly half of them. Not seen are kernels that do not go through PyTorch, such as
/// this library's own (none runs on meta or in float64).
FlopCount count_flops(const std::function<void()>& work);

}  // namespace x_transformers
