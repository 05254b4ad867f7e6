// Options of FreeTransformer.
#pragma once

#include <cstdint>
#include <numbers>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

struct FreeTransformerOptions {
  /// tokens of the vocabulary
  int64_t num_tokens = 0;
  /// layers of the decoder before the codes; may be 0 (arXiv:2510.17558)
  int64_t dec_head_depth = 0;
  /// layers of the decoder that see the codes
  int64_t dec_tail_depth = 0;
  /// tokens of the longest training sequence; positions are rotary and have no end
  int64_t max_seq_len = 0;
  /// layers of the encoder that finds the codes
  int64_t enc_depth = 1;
  /// has no effect, as in Python: a code has 2 ** latent_bits features
  std::optional<int64_t> dim_latent = std::nullopt;
  /// bits of a code
  int64_t latent_bits = 16;
  /// a code for each token, or one for the sequence
  bool per_token_latents = true;
  /// nats of a code that cost nothing (free bits)
  double kl_loss_threshold = std::numbers::ln2;
  /// nothing is left: latent_bits and kl_loss_threshold are its options
  NoOptions binary_mapper_kwargs = {};
  AttentionLayersOptions layers = stack();  ///< of every stack: dim, heads and the rest
  /// options of the encoder's stack alone
  std::optional<AttentionLayersOptions> enc_kwargs = std::nullopt, dec_kwargs = std::nullopt;
  /// weight of the codes' information in the loss
  double kl_loss_weight = 1.0;
  /// dropout of the codes
  double latent_dropout_prob = 0.0;
  /// token that stands where there is none
  int64_t pad_id = -1;
  Compat compat = {};  ///< of the whole model; no option of the class

  /// A stack whose causality is its owner's.
  static AttentionLayersOptions stack();

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("num_tokens", num_tokens, "tokens of the vocabulary");
    v.required("dec_head_depth", dec_head_depth, "layers of the decoder before the codes; may be 0",
               "arXiv:2510.17558");
    v.required("dec_tail_depth", dec_tail_depth, "layers of the decoder that see the codes");
    v.required_free(
        "max_seq_len", max_seq_len,
        "tokens of the longest training sequence; positions are rotary and have no end");
    v.size("enc_depth", enc_depth, "layers of the encoder that finds the codes");
    v.size("dim_latent", dim_latent,
           "has no effect, as in Python: a code has 2 ** latent_bits features");
    v.size("latent_bits", latent_bits, "bits of a code");
    v("per_token_latents", per_token_latents, "a code for each token, or one for the sequence");
    v.free("kl_loss_threshold", kl_loss_threshold, "nats of a code that cost nothing (free bits)");
    v("binary_mapper_kwargs", binary_mapper_kwargs,
      "nothing is left: latent_bits and kl_loss_threshold are its options");
    FieldsWithout rest(v, {"depth", "cross_attend", "only_cross", "use_rmsnorm", "rotary_pos_emb",
                           "pre_norm_has_final_norm"});
    layers.fields(rest);
    v.overlay("enc_kwargs", enc_kwargs, layers, "options of the encoder's stack alone",
              {"dim", "depth", "cross_attend", "only_cross", "use_rmsnorm", "rotary_pos_emb",
               "pre_norm_has_final_norm"});
    v.overlay("dec_kwargs", dec_kwargs, layers, "options of the decoder's stacks alone",
              {"dim", "depth", "use_rmsnorm", "rotary_pos_emb", "pre_norm_has_final_norm"});
    v.free("kl_loss_weight", kl_loss_weight, "weight of the codes' information in the loss");
    v.free("latent_dropout_prob", latent_dropout_prob, "dropout of the codes");
    v.free("pad_id", pad_id, "token that stands where there is none");
  }
};

}  // namespace x_transformers
