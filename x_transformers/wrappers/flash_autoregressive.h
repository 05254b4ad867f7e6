// Next-token training and generation as in FLASH-pytorch: FLASHAutoregressiveWrapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "x_transformers/core/ignored_target.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/wrappers/flash_autoregressive_options.h"

namespace x_transformers {

/// The mean loss of predicting each token from those before it.
class FLASHAutoregressiveWrapperImpl : public torch::nn::Module, public TokenWriter {
 public:
  /// Targets of this value never count.
  static constexpr int64_t kIgnored = kIgnoredTarget;

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
