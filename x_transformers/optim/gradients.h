// Collecting, measuring and clipping gradients. Nothing here reads from the device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "x_transformers/core/world_place.h"

namespace x_transformers {

/// The l2 norm over all elements of all `gradients`, an fp32 scalar on their device. Undefined ones
/// are passed over; without any the norm is 0 on the CPU.
at::Tensor gradient_norm(const std::vector<at::Tensor>& gradients);

/// The same of gradients of which each process has some, on `device`, and the others undefined:
/// each calls it.
at::Tensor gradient_norm(const std::vector<at::Tensor>& gradients, const at::Device& device,
                         const SumOverRanks& sum);

/// What gradients of norm `norm` must be divided by for a norm of at most `max_norm`: an fp32
/// scalar >= 1 on the device of `norm` (arXiv:1211.5063).
at::Tensor clip_divisor(const at::Tensor& norm, double max_norm);

/// Scales `gradients` in place to an l2 norm of at most `max_norm` over all of them, and returns
/// the norm that they had, an fp32 scalar on their device.
at::Tensor clip_grad_norm(const std::vector<at::Tensor>& gradients, double max_norm);

/// Sums the gradients of several backward passes in fp32.
///
///   collector.begin();
///   for (batch : micro_batches) {
///     (loss(batch) / micro_batches.size()).backward();
///     collector.collect();
///   }
///   use(collector.gradients());
///
/// fp32 parameters add up in their own `.grad`; those of a smaller type in fp32 tensors, since sums
/// in bf16 lose what later passes add. None lives while a forward pass holds its activations,
/// unless a pass before has filled it. With `keeps_low` those of a single pass stay as they are.
class GradientCollector {
 public:
  /// `parameters` share one type.
  explicit GradientCollector(std::vector<at::Tensor> parameters, bool keeps_low = false);
  /// Forgets what was collected.
  void begin();
  /// Takes the gradients that a backward pass has left.
  void collect();
  /// Takes those of some parameters, while the pass goes on to others.
  void take(const std::vector<size_t>& parameters);
  /// The gradient of one parameter, made 0 where no pass reached it.
  const at::Tensor& defined(size_t parameter);
  /// One gradient for each parameter, undefined where no pass reached it: fp32, but with
  /// `keeps_low` of the type of the parameters after a single pass.
  const std::vector<at::Tensor>& gradients() const { return gradients_; }

 private:
  void add_in_fp32(const std::vector<size_t>& parameters);
  std::vector<at::Tensor> parameters_, gradients_;
  bool is_low_precision_ = false, keeps_low_;
  int64_t passes_ = 0;
};

}  // namespace x_transformers
