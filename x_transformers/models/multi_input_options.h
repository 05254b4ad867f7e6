// Options of MultiInputTransformerWrapper, and the rules among them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

/// Several tokens at each place in, logits of each out.
struct MultiInputTransformerWrapperOptions {
  /// tokens of each vocabulary, by the names of the inputs
  std::map<std::string, int64_t> num_tokens = {};
  /// places of the longest sequence; 0: no absolute positions
  int64_t max_seq_len = 0;
  /// the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers
  AttentionLayersOptions attn_layers = {};
  /// features of the embeddings, projected to dim; default: dim
  std::optional<int64_t> emb_dim = std::nullopt;
  /// tokens of Transformer-XL memory that are kept; 0: all (arXiv:1901.02860)
  int64_t max_mem_len = 0;
  /// memories go to layers this much lower (arXiv:2012.15688)
  int64_t shift_mem_down = 0;
  /// dropout of the embeddings
  double emb_dropout = 0.0;
  /// layer norm of the embeddings (arXiv:2210.02414)
  bool post_emb_norm = false;
  /// learned tokens in front of the sequence (arXiv:2006.11527)
  std::optional<int64_t> num_memory_tokens = std::nullopt;
  /// memory tokens also after each group of this many tokens
  std::optional<int64_t> memory_tokens_interspersed_every = std::nullopt;
  /// no heads: the output is embeddings
  bool return_only_embed = false;
  /// learned absolute positions (where the stack has no others)
  bool use_abs_pos_emb = true;
  /// sinusoidal positions with a learned scale (arXiv:2202.10447)
  bool scaled_sinu_pos_emb = false;
  /// part of the gradient that reaches the embeddings (arXiv:2105.13290)
  double emb_frac_gradient = 1.0;
  /// has no effect, as in Python: the call's weight counts
  double attn_z_loss_weight = kAttnZLossWeight;
  Compat compat = {};  ///< of the whole model; no option of the class

  /// Whether memory tokens stand between the tokens.
  bool has_interspersed_memory() const {
    return memory_tokens_interspersed_every && num_memory_tokens.value_or(0) > 0;
  }

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("num_tokens", num_tokens, "tokens of each vocabulary, by the names of the inputs");
    v.required_free("max_seq_len", max_seq_len,
                    "places of the longest sequence; 0: no absolute positions");
    v.required("attn_layers", attn_layers,
               "the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers");
    v("emb_dim", emb_dim, "features of the embeddings, projected to dim; default: dim");
    v.free("max_mem_len", max_mem_len, "tokens of Transformer-XL memory that are kept; 0: all",
           "arXiv:1901.02860");
    v("shift_mem_down", shift_mem_down, "memories go to layers this much lower",
      "arXiv:2012.15688");
    v.free("emb_dropout", emb_dropout, "dropout of the embeddings");
    v("post_emb_norm", post_emb_norm, "layer norm of the embeddings", "arXiv:2210.02414");
    v("num_memory_tokens", num_memory_tokens, "learned tokens in front of the sequence",
      "arXiv:2006.11527");
    v("memory_tokens_interspersed_every", memory_tokens_interspersed_every,
      "memory tokens also after each group of this many tokens");
    v("return_only_embed", return_only_embed, "no heads: the output is embeddings");
    v("use_abs_pos_emb", use_abs_pos_emb,
      "learned absolute positions (where the stack has no others)");
    v("scaled_sinu_pos_emb", scaled_sinu_pos_emb, "sinusoidal positions with a learned scale",
      "arXiv:2202.10447");
    v.free("emb_frac_gradient", emb_frac_gradient,
           "part of the gradient that reaches the embeddings", "arXiv:2105.13290");
    v.free("attn_z_loss_weight", attn_z_loss_weight,
           "has no effect, as in Python: the call's weight counts");
  }
};

/// Throws InputError, naming the option, for sizes out of range and what does not go together.
void validate(const MultiInputTransformerWrapperOptions& options);

}  // namespace x_transformers
