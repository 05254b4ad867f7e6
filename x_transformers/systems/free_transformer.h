// A decoder that is conditioned on codes which it draws: FreeTransformer.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <memory>
#include <numbers>
#include <optional>

#include "x_transformers/core/parts.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/binary_mapper.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/systems/free_transformer_options.h"
#include "x_transformers/systems/free_transformer_session.h"

namespace x_transformers {

/// Free transformer (arXiv:2510.17558): an encoder, which sees the whole sequence, chooses a code
/// for each token (or one for all) as a conditional variational autoencoder does, and the second
/// half of the decoder is conditioned on it. In generation the codes are drawn.
class FreeTransformerImpl : public torch::nn::Module, public TokenWriter, public PartOwner {
 public:
  struct Losses {
    at::Tensor total;  ///< the sum that is trained, in nats a token
    at::Tensor ar_loss, kl_loss;
  };

  /// Throws InputError for impossible options.
  explicit FreeTransformerImpl(FreeTransformerOptions options);

  /// seq [b, n + 1] int64; codes from seq_for_latents [b, m], one for the whole sequence, or else
  /// from seq itself. Codes are drawn in evaluation too.
  Losses forward(const at::Tensor& seq, const at::Tensor& seq_for_latents = {});

  /// seq [b, n + 1] int64 -> the logits [b, n, tokens] of all tokens but the first, by those before
  /// each and codes that are drawn for the sequence itself.
  at::Tensor next_token_logits(const at::Tensor& seq);

  /// One-hot codes [b, n or 1, codes] of what the head of the decoder makes of a sequence, [b, n,
  /// dim]; mask [b, n] bool. `per_token` as per_token_latents, which is the default.
  BinaryMapperImpl::Output encode_to_latents(const at::Tensor& decoder_head_embeds,
                                             const at::Tensor& mask, bool calc_aux_loss,
                                             std::optional<bool> per_token = std::nullopt);

  /// New tokens [..., seq_len] after prompts [..., n]. latents: codes, int64 [] or [b], or weights
  /// of codes [codes], [b, codes]; with another dimension before the codes, one for each token of
  /// prompt and result. Undefined: codes are drawn, for each token with per_token_latents. With
  /// python_quirks undefined latents are none, seq_len counts the prompt, which is part of the
  /// result.
  at::Tensor generate(const at::Tensor& prompts, const GenerateOptions& options,
                      const at::Tensor& latents = {}, bool use_kv_cache = true);
  /// Python's: top_p with 0.9.
  static GenerateOptions usual_sampling();

  // As a writer: with codes that are drawn.
  std::optional<TokenLimit> readable_tokens() const override;
  std::optional<TokenLimit> written_tokens() const override { return readable_tokens(); }
  int64_t max_seq_len() const override { return 0; }
  int64_t pad_value() const override { return 0; }
  std::unique_ptr<DecodingSession> start_session(const SessionRequest& request) override;

  const FreeTransformerOptions& options() const { return options_; }
  Spelling part_spelling(const torch::nn::Module& part) const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  AttentionLayers build_stack(const char* name, AttentionLayersOptions options, int64_t depth,
                              const Spelling& spelling);
  at::Tensor embed(const at::Tensor& tokens);
  at::Tensor run_head(const at::Tensor& tokens);
  struct Predicted {
    at::Tensor logits;  ///< [b, n, tokens]
    BinaryMapperImpl::Output latents;
  };
  Predicted predict(const at::Tensor& seq, const at::Tensor& seq_for_latents);
  at::Tensor condition_of(const at::Tensor& latents, int64_t rows);
  at::Tensor draw_condition(int64_t rows, int64_t tokens,
                            const std::optional<at::Generator>& generator);
  FreeTransformerParts parts(std::optional<int64_t> seed);

  FreeTransformerOptions options_;
  torch::nn::Embedding token_emb_{nullptr};
  Linear token_unembed_{nullptr}, to_latent_bit_logits_{nullptr},
      from_latent_to_condition_{nullptr};
  at::Tensor query_token_for_latents_;
  AttentionLayers encoder_{nullptr}, decoder_head_{nullptr}, decoder_tail_{nullptr};
  BinaryMapper binary_mapper_{nullptr};
};
TORCH_MODULE(FreeTransformer);

}  // namespace x_transformers
