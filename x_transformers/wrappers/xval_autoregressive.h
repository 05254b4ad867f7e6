// Next-token training and generation with numbers: XValAutoregressiveWrapper.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "x_transformers/models/xval_net.h"
#include "x_transformers/wrappers/xval_autoregressive_options.h"

namespace x_transformers {

/// Trains a net to predict each token from those before it, and each number.
class XValAutoregressiveWrapperImpl : public torch::nn::Module {
 public:
  struct Output {
    at::Tensor loss;  ///< [] cross entropy a target, plus the weight times the error a number (with
                      ///< python_quirks the error too is a mean over all targets)
    at::Tensor cross_entropy_loss;  ///< [b, n - 1] of each target, before the means
    at::Tensor numerical_mse_loss;  ///< [b, n - 1], 0 where the target is no number
  };
  struct Generated {
    at::Tensor sampled_token_ids;  ///< [b, seq_len] int64
    at::Tensor sampled_numbers;    ///< [b, seq_len], NaN where the token is no number
    at::Tensor is_number_mask;     ///< [b, seq_len] bool
  };

  /// A wrapper around `net`, which it shares. InputError for impossible options.
  explicit XValAutoregressiveWrapperImpl(std::shared_ptr<XValNet> net,
                                         XValAutoregressiveWrapperOptions options = {});
  /// The same of a module holder, such as XValTransformerWrapper.
  template <class Net>
  explicit XValAutoregressiveWrapperImpl(const torch::nn::ModuleHolder<Net>& net,
                                         XValAutoregressiveWrapperOptions options = {})
      : XValAutoregressiveWrapperImpl(
            std::shared_ptr<XValNet>(net.is_empty() ? nullptr : net.ptr()), options) {}
  /// inputs.x, inputs.x_num [b, n], n > 1. `mask` is [b, n], or [b, n - 1] for inputs and targets
  /// alike. A target number that is NaN has no error.
  Output forward(XValInputs inputs);
  /// Goes on after inputs.x, inputs.x_num [b, n].
  Generated generate(XValInputs inputs, const XValGenerateOptions& options);

  const std::shared_ptr<XValNet>& net() const { return net_; }
  const XValAutoregressiveWrapperOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  XValAutoregressiveWrapperOptions options_;
  std::shared_ptr<XValNet> net_;
};
TORCH_MODULE(XValAutoregressiveWrapper);

}  // namespace x_transformers
