// Training and generation by masked tokens: NonAutoregressiveWrapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "x_transformers/generation/sequence_writer.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/wrappers/mask_schedule.h"
#include "x_transformers/wrappers/nonautoregressive_options.h"
#include "x_transformers/wrappers/self_critic.h"
#include "x_transformers/wrappers/token_masking.h"

namespace x_transformers {

/// What a training step takes.
struct NonAutoregressiveInputs {
  at::Tensor x;           ///< [b, max_seq_len] int64
  TransformerInputs net;  ///< context and the like
  bool only_train_generator = false, only_train_critic = false;
  /// Of the tokens that the critic judges; default: a random one from 0 to 1.
  std::optional<double> generator_sample_temperature = std::nullopt;
};

/// How sequences are written.
struct NonAutoregressiveGeneration {
  std::optional<int64_t> batch_size = std::nullopt;  ///< default: one sequence without a batch
  double start_temperature = 1.0;                    ///< falls to 0 with the last step
  /// Part of the tokens that cannot be drawn, the least probable ones; empty: none.
  std::optional<double> filter_thres = 0.7;
  double noise_level_scale = 1.0;  ///< of the noise on the critic's judgement
  std::optional<int64_t> seed = std::nullopt;
  /// [batch_size, m] int64, m <= max_seq_len: tokens that each sequence begins with.
  at::Tensor prompts = {};
  std::optional<int64_t> tokens = std::nullopt;  ///< those from here on are not drawn
};

/// Masked modelling of whole sequences (Mask-Predict, arXiv:1904.09324; MaskGIT, arXiv:2202.04200):
/// the net learns to find masked tokens, and writes by finding all of them in a few steps, the
/// surest first.
class NonAutoregressiveWrapperImpl : public torch::nn::Module, public SequenceWriter {
 public:
  struct Losses {
    at::Tensor loss;  ///< what is trained
    /// Of the net, in nats a token; with use_simple_mdlm_loss_weight a bound of the text's own.
    /// Undefined where only the critic is trained.
    at::Tensor generator_loss;
    at::Tensor critic_loss;  ///< undefined without a critic
  };

  /// A wrapper around `net`, which it shares, as `token_critic` is: a module that takes tokens
  /// [b, n] and gives the logit that each is wrong, [b, n, 1]. InputError for impossible options,
  /// and for a net that has no max_seq_len or no logits of each token.
  explicit NonAutoregressiveWrapperImpl(std::shared_ptr<TokenModel> net,
                                        NonAutoregressiveWrapperOptions options,
                                        CallableModule token_critic = {});
  /// The same of a module holder, such as TransformerWrapper.
  template <class Net>
  explicit NonAutoregressiveWrapperImpl(const torch::nn::ModuleHolder<Net>& net,
                                        NonAutoregressiveWrapperOptions options,
                                        CallableModule token_critic = {})
      : NonAutoregressiveWrapperImpl(std::shared_ptr<TokenModel>(net.ptr()), std::move(options),
                                     std::move(token_critic)) {}

  /// The losses on randomly masked tokens; random in evaluation mode too.
  Losses forward(const NonAutoregressiveInputs& inputs);
  Losses forward(const at::Tensor& x);

  /// Sequences [batch_size, max_seq_len] int64, or [max_seq_len]. `inputs` has a context and the
  /// like for each of them.
  at::Tensor generate(const NonAutoregressiveGeneration& generation,
                      const TransformerInputs& inputs = {});

  // As a writer.
  std::optional<TokenLimit> readable_tokens() const override { return net_->embedded_tokens(); }
  std::optional<TokenLimit> written_tokens() const override { return net_->predicted_tokens(); }
  int64_t sequence_length() const override { return net_->traits().max_seq_len; }
  at::Tensor write(const at::Tensor& prompts, const SequenceRequest& request) override;

  const std::shared_ptr<TokenModel>& net() const { return net_; }
  const NonAutoregressiveWrapperOptions& options() const { return options_; }
  bool has_critic() const { return self_critic_ || token_critic_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  struct Drawing;
  void check(const NonAutoregressiveInputs& inputs) const;
  at::Tensor self_condition(const MaskedTokens& masked, const TransformerInputs& inputs);
  at::Tensor generator_loss(const at::Tensor& logits, const at::Tensor& x,
                            const MaskedTokens& masked) const;
  at::Tensor critic_loss(const NonAutoregressiveInputs& inputs, const at::Tensor& logits,
                         const MaskedTokens& masked);
  at::Tensor judge(const at::Tensor& tokens, const TransformerInputs& inputs);
  at::Tensor without_mask_id(const at::Tensor& logits) const;
  void fill(Drawing& drawing, const NonAutoregressiveGeneration& generation, double annealing);

  NonAutoregressiveWrapperOptions options_;
  MaskSchedule schedule_;
  std::shared_ptr<TokenModel> net_;
  at::Tensor null_embed_;
  Linear to_self_cond_{nullptr};
  SelfCritic self_critic_{nullptr};
  CallableModule token_critic_;
};
TORCH_MODULE(NonAutoregressiveWrapper);

}  // namespace x_transformers
