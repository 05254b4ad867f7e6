// Next-token training and generation with numbers: XValAutoregressiveWrapper.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "x_transformers/core/options.h"
#include "x_transformers/models/xval.h"

namespace x_transformers {

/// Python's arguments beside the net.
struct XValAutoregressiveWrapperOptions {
  /// targets of this value do not count in the loss
  int64_t ignore_index = -100;
  /// token that stands where the input has ignore_index
  int64_t pad_value = 0;
  /// weight of the squared error of numbers (arXiv:2310.02989)
  double numerical_loss_weight = 1.0;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("ignore_index", ignore_index, "targets of this value do not count in the loss");
    v.free("pad_value", pad_value, "token that stands where the input has ignore_index");
    v.free("numerical_loss_weight", numerical_loss_weight, "weight of the squared error of numbers",
           "arXiv:2310.02989");
  }
};

struct XValGenerateOptions {
  /// tokens to generate
  int64_t seq_len = 0;
  /// divides the filtered logits; 0 takes the most probable token
  double temperature = 1.0;
  /// top_k, top_p, top_a, min_p or identity
  std::string filter_logits_fn = "top_k";
  /// of filter_logits_fn: frac_num_tokens or k; thres; min_p_pow, min_p_ratio; min_p
  std::map<std::string, double> filter_kwargs = {};
  /// use caches (where the model can)
  bool cache_kv = true;
  /// start of the random numbers; default: the device's own generator
  std::optional<int64_t> seed = std::nullopt;
  /// EmbeddedSessionOptions::static_caches; no argument of calls
  bool static_caches = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("seq_len", seq_len, "tokens to generate");
    v("temperature", temperature, "divides the filtered logits; 0 takes the most probable token");
    v("filter_logits_fn", filter_logits_fn, "top_k, top_p, top_a, min_p or identity");
    v("filter_kwargs", filter_kwargs,
      "of filter_logits_fn: frac_num_tokens or k; thres; min_p_pow, min_p_ratio; min_p");
    v("cache_kv", cache_kv, "use caches (where the model can)");
    v("seed", seed, "start of the random numbers; default: the device's own generator");
  }
};

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
  explicit XValAutoregressiveWrapperImpl(XValTransformerWrapper net,
                                         XValAutoregressiveWrapperOptions options = {});
  /// inputs.x, inputs.x_num [b, n], n > 1. `mask` is [b, n], or [b, n - 1] for inputs and targets
  /// alike. A target number that is NaN has no error.
  Output forward(XValInputs inputs);
  /// Goes on after inputs.x, inputs.x_num [b, n].
  Generated generate(XValInputs inputs, const XValGenerateOptions& options);

  const XValTransformerWrapper& net() const { return net_; }
  const XValAutoregressiveWrapperOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  XValAutoregressiveWrapperOptions options_;
  XValTransformerWrapper net_{nullptr};
};
TORCH_MODULE(XValAutoregressiveWrapper);

}  // namespace x_transformers
