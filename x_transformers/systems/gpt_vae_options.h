// Options of GPTVAE.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

struct GPTVAEOptions {
  /// tokens of the vocabulary
  int64_t num_tokens = 0;
  /// layers of the encoder
  int64_t enc_depth = 0;
  /// tokens of the longest sequence
  int64_t max_seq_len = 0;
  /// features of the latent; default: dim (arXiv:1312.6114)
  std::optional<int64_t> dim_latent = std::nullopt;
  AttentionLayersOptions layers = stack();  ///< of both stacks: dim, heads and the rest; depth is
                                            ///< the decoder's
  /// options of the encoder's stack alone
  std::optional<AttentionLayersOptions> enc_kwargs = std::nullopt, dec_kwargs = std::nullopt;
  /// weight of the latent's divergence in the loss
  double vae_kl_loss_weight = 1.0;
  /// divergence of a feature that costs nothing, in nats (arXiv:1606.04934)
  double vae_kl_div_floor = 0.0;
  /// part of the training sequences that do without a latent
  double latents_dropout_prob = 0.5;
  /// token that stands where there is none
  int64_t pad_id = -1;
  /// module from tokens [b, n] and mask to one embedding [b, dim]; default: the mean of an
  /// Encoder's
  std::optional<ModuleSpec> encoder = std::nullopt;
  Compat compat = {};  ///< of the whole model; no option of the class

  /// A stack whose causality is its owner's.
  static AttentionLayersOptions stack();

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("num_tokens", num_tokens, "tokens of the vocabulary");
    v.required("enc_depth", enc_depth, "layers of the encoder");
    v.required_free("max_seq_len", max_seq_len, "tokens of the longest sequence");
    v.size("dim_latent", dim_latent, "features of the latent; default: dim", "arXiv:1312.6114");
    layers.fields(v);
    v.overlay("enc_kwargs", enc_kwargs, layers, "options of the encoder's stack alone",
              {"dim", "depth"});
    v.overlay("dec_kwargs", dec_kwargs, layers, "options of the decoder's stack alone",
              {"dim", "depth"});
    v.free("vae_kl_loss_weight", vae_kl_loss_weight,
           "weight of the latent's divergence in the loss");
    v.free("vae_kl_div_floor", vae_kl_div_floor,
           "divergence of a feature that costs nothing, in nats", "arXiv:1606.04934");
    v.free("latents_dropout_prob", latents_dropout_prob,
           "part of the training sequences that do without a latent");
    v.free("pad_id", pad_id, "token that stands where there is none");
    v("encoder", encoder,
      "module from tokens [b, n] and mask to one embedding [b, dim]; default: the mean of an "
      "Encoder's");
  }
};

}  // namespace x_transformers
