// A fixed number of tokens that attend to a sequence.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "x_transformers/core/inputs.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_pool_options.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers {

/// What one call of AttentionPool takes.
struct AttentionPoolInputs {
  at::Tensor context;  ///< [b, n, dim_context]
  at::Tensor mask;     ///< [b, n] bool, may be undefined

  /// All but the context, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    v("mask", self.mask, {.kind = TensorKind::boolean, .axes = {Axis::batch, Axis::tokens}});
  }
};

/// Learned queries that pool a sequence: [b, n, dim_context] -> [b, num_pooled_tokens, dim].
class AttentionPoolImpl : public torch::nn::Module {
 public:
  explicit AttentionPoolImpl(AttentionPoolOptions options);
  at::Tensor forward(const AttentionPoolInputs& inputs);
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  AttentionPoolOptions options_;
  at::Tensor queries_;
  Attention attention_{nullptr};
  AttentionLayers blocks_{nullptr};
};
TORCH_MODULE(AttentionPool);

}  // namespace x_transformers
