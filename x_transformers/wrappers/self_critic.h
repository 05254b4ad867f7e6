// A net that judges its own tokens: SelfCritic.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <optional>

#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

/// A head on a net that other heads share (token critic, arXiv:2209.04439).
class SelfCriticImpl : public torch::nn::Module {
 public:
  explicit SelfCriticImpl(std::shared_ptr<TokenModel> net);
  /// The same of a module holder, such as TransformerWrapper.
  template <class Net>
  explicit SelfCriticImpl(const torch::nn::ModuleHolder<Net>& net)
      : SelfCriticImpl(std::shared_ptr<TokenModel>(net.ptr())) {}

  /// Tokens x [b, n] int64 -> the logit that each is wrong, [b, n, 1]. `inputs` adds a context and
  /// the like.
  at::Tensor forward(const at::Tensor& x, TransformerInputs inputs = {});

  const std::shared_ptr<TokenModel>& net() const { return net_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  std::shared_ptr<TokenModel> net_;
  Linear to_logits_{nullptr};
};
TORCH_MODULE(SelfCritic);

}  // namespace x_transformers
