// A decoder that is steered by a latent vector: GPTVAE.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "x_transformers/core/parts.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/systems/gpt_vae_options.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers {

/// A language model as a conditional variational autoencoder (as ACT, arXiv:2304.13705): an encoder
/// makes a normal distribution of a sequence, and a latent drawn from it stands in front of the
/// decoder's tokens.
class GPTVAEImpl : public torch::nn::Module, public PartOwner {
 public:
  struct Latents {
    at::Tensor drawn;          ///< [b, dim_latent]
    at::Tensor mean, log_var;  ///< of the distribution
  };
  struct Losses {
    at::Tensor total;  ///< the sum that is trained, in nats a token
    at::Tensor ar_loss, vae_kl_loss;
  };

  /// Throws InputError for impossible options.
  explicit GPTVAEImpl(GPTVAEOptions options);

  /// The loss of seq [b, n] int64 given the latent of seq_for_latents [b, m], or else of seq
  /// itself. Latents are drawn in evaluation too.
  Losses forward(const at::Tensor& seq, const at::Tensor& seq_for_latents = {});
  /// seq [b, n + 1] int64 -> the logits [b, n, tokens] of all tokens but the first, by those before
  /// each and the mean of the sequence's own latents.
  at::Tensor next_token_logits(const at::Tensor& seq);
  /// seq [b, n] int64, of which pad_id is no token.
  Latents encode_to_latents(const at::Tensor& seq);
  /// What follows inputs.prompts, given latents [dim_latent] or [b, dim_latent]; undefined: none.
  at::Tensor generate(GenerationInputs inputs, const GenerateOptions& options,
                      const at::Tensor& latents = {});

  /// The decoder as a language model, without latents.
  AutoregressiveWrapper& decoder() { return ar_wrapped_decoder_; }
  const GPTVAEOptions& options() const { return options_; }
  Spelling part_spelling(const torch::nn::Module& part) const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  void build_encoder();
  at::Tensor prepended(const at::Tensor& latents);
  void drop_latents(TransformerInputs& inputs) const;

  GPTVAEOptions options_;
  CallableModule encoder_;
  Linear to_latent_mean_log_variance_{nullptr}, from_latent_to_prepend_token_{nullptr};
  AutoregressiveWrapper ar_wrapped_decoder_{nullptr};
};
TORCH_MODULE(GPTVAE);

}  // namespace x_transformers
