// Next-token training and generation as in FLASH-pytorch: FLASHAutoregressiveWrapper.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/models/token_model.h"

namespace x_transformers {

/// Python's arguments beside the net.
struct FLASHAutoregressiveWrapperOptions {
  /// token that stands where there is none: it is no target of the loss (as a number that is no
  /// token, such as -1: every token is one), and follows an eos_token
  int64_t pad_value = 0;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("pad_value", pad_value,
           "token that stands where there is none: it is no target of the loss (as a number that "
           "is no "
           "token, such as -1: every token is one), and follows an eos_token");
  }
};

/// Arguments of generate.
struct FLASHGenerateOptions {
  /// tokens to generate at most
  int64_t seq_len = 0;
  /// token that ends a sequence; default: none
  std::optional<int64_t> eos_token = std::nullopt;
  /// divides the filtered logits; 0 takes the most probable token
  double temperature = 1.0;
  /// part of the vocabulary that is ruled out; one token is left
  double filter_thres = 0.9;
  /// start of the random numbers; default: the device's own generator
  std::optional<int64_t> seed = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("seq_len", seq_len, "tokens to generate at most");
    v("eos_token", eos_token, "token that ends a sequence; default: none");
    v("temperature", temperature, "divides the filtered logits; 0 takes the most probable token");
    v("filter_thres", filter_thres, "part of the vocabulary that is ruled out; one token is left");
    v("seed", seed, "start of the random numbers; default: the device's own generator");
  }
};

/// The mean loss of predicting each token from those before it.
class FLASHAutoregressiveWrapperImpl : public torch::nn::Module, public TokenWriter {
 public:
  /// Targets of this value never count.
  static constexpr int64_t kIgnored = -100;

  /// A wrapper around `net`, which it shares. InputError for a net that has no logits of each
  /// token.
  explicit FLASHAutoregressiveWrapperImpl(std::shared_ptr<TokenModel> net,
                                          FLASHAutoregressiveWrapperOptions options = {});

  /// x [b, n + 1] int64 -> the loss in nats a token, over the targets that count: not kIgnored, not
  /// pad_value, not masked. `mask` [b or 1, n] bool is of the tokens that the net reads.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask = {});

  /// The tokens that follow start_tokens [b, n] (or [n]), [b, m] with m <= seq_len. `mask` [b or 1,
  /// n] hides tokens of the prompt; those that are generated exist.
  at::Tensor generate(const at::Tensor& start_tokens, const FLASHGenerateOptions& options,
                      const at::Tensor& mask = {});

  // As a writer.
  std::optional<TokenLimit> readable_tokens() const override { return net_->embedded_tokens(); }
  std::optional<TokenLimit> written_tokens() const override { return net_->predicted_tokens(); }
  int64_t max_seq_len() const override { return net_->traits().max_seq_len; }
  int64_t pad_value() const override { return options_.pad_value; }
  std::unique_ptr<DecodingSession> start_session(const SessionRequest& request) override;

  const std::shared_ptr<TokenModel>& net() const { return net_; }
  const FLASHAutoregressiveWrapperOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor targets_of(const at::Tensor& x, const at::Tensor& mask) const;

  FLASHAutoregressiveWrapperOptions options_;
  std::shared_ptr<TokenModel> net_;
};
TORCH_MODULE(FLASHAutoregressiveWrapper);

}  // namespace x_transformers
