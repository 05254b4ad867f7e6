// Floating-point operations of a piece of code, counted as they are dispatched.
#pragma once

#include <functional>

namespace x_transformers {

struct FlopCount {
  /// Multiplications and additions of matrix products, convolutions and attention: 2 m n k for
  /// [m, k] by [k, n].
  double products = 0;
  /// Elementwise operations, reductions and softmaxes: for each operation, the number of elements
  /// of its input or of its output, the larger of the two. Copies, views, indexing and integer
  /// operations count 0.
  double elements = 0;

  double total() const { return products + elements; }
};

/// Runs `work` and counts the operations that it dispatches on this thread, on any device and under
/// DryRun. A composite operation is counted once. Operations inside a nested count_flops are
/// counted by that one only. Attention counts all pairs of query and key, causal or not,
/// although fused kernels skip nearly half of a causal mask. Kernels that bypass PyTorch's
/// dispatcher, such as this library's own, are not counted; on meta and in float64 none of them
/// runs.
FlopCount count_flops(const std::function<void()>& work);

}  // namespace x_transformers
