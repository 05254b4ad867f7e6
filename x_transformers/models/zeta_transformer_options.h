// Options of ZetaTransformer, and the rules among them.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/models/transformer_wrapper_options.h"

namespace x_transformers {

/// The arguments of Zeta's Transformer, as its documentation has them.
struct ZetaTransformerOptions {
  /// what embeds the tokens: TokenEmbedding, AbsolutePositionalEmbedding, ScaledSinusoidalEmbedding
  /// or a registered type; options that it leaves out are the model's
  ModuleSpec embedding_provider = {"TokenEmbedding"};
  /// tokens of the vocabulary
  int64_t num_tokens = 0;
  /// tokens of the longest sequence; 0: no absolute positions
  int64_t max_seq_len = 0;
  /// the stack: Encoder, Decoder, ...
  AttentionLayersOptions attn_layers = {};
  /// features of the embeddings, projected to dim; default: dim
  std::optional<int64_t> emb_dim = std::nullopt;
  /// tokens of Transformer-XL memory that are kept; below 1 a share of max_seq_len; 0: none
  /// (arXiv:1901.02860)
  double max_mem_len = 0.0;
  /// memories go to layers this much lower (arXiv:2012.15688)
  int64_t shift_mem_down = 0;
  /// dropout of the embeddings
  double emb_dropout = 0.0;
  /// layer norm of the embeddings (arXiv:2210.02414)
  bool post_emb_norm = false;
  /// learned tokens in front of the sequence (arXiv:2006.11527)
  std::optional<int64_t> num_memory_tokens = std::nullopt;
  /// logits by the token embeddings (arXiv:1608.05859)
  bool tie_embedding = false;
  /// features of the output; default: num_tokens
  std::optional<int64_t> logits_dim = std::nullopt;
  /// learned absolute positions (where the stack has no others)
  bool use_abs_pos_emb = true;
  /// sinusoidal positions with a learned scale (arXiv:2202.10447)
  bool scaled_sinu_pos_emb = false;
  /// embeddings of length one
  bool l2norm_embed = false;
  /// part of the gradient that reaches the embeddings (arXiv:2105.13290)
  double emb_frac_gradient = 1.0;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("num_tokens", num_tokens, "tokens of the vocabulary");
    v.required_free("max_seq_len", max_seq_len,
                    "tokens of the longest sequence; 0: no absolute positions");
    v.required("attn_layers", attn_layers, "the stack: Encoder, Decoder, ...");
    v("embedding_provider", embedding_provider,
      "what embeds the tokens: TokenEmbedding, AbsolutePositionalEmbedding, "
      "ScaledSinusoidalEmbedding or a registered type; options that it leaves out are the model's");
    v("emb_dim", emb_dim, "features of the embeddings, projected to dim; default: dim");
    v.free("max_mem_len", max_mem_len,
           "tokens of Transformer-XL memory that are kept; below 1 a share of max_seq_len; 0: none",
           "arXiv:1901.02860");
    v("shift_mem_down", shift_mem_down, "memories go to layers this much lower",
      "arXiv:2012.15688");
    v.free("emb_dropout", emb_dropout, "dropout of the embeddings");
    v("post_emb_norm", post_emb_norm, "layer norm of the embeddings", "arXiv:2210.02414");
    v("num_memory_tokens", num_memory_tokens, "learned tokens in front of the sequence",
      "arXiv:2006.11527");
    v("tie_embedding", tie_embedding, "logits by the token embeddings", "arXiv:1608.05859");
    v("logits_dim", logits_dim, "features of the output; default: num_tokens");
    v("use_abs_pos_emb", use_abs_pos_emb,
      "learned absolute positions (where the stack has no others)");
    v("scaled_sinu_pos_emb", scaled_sinu_pos_emb, "sinusoidal positions with a learned scale",
      "arXiv:2202.10447");
    v("l2norm_embed", l2norm_embed, "embeddings of length one");
    v.free("emb_frac_gradient", emb_frac_gradient,
           "part of the gradient that reaches the embeddings", "arXiv:2105.13290");
  }
};

/// Throws InputError for what TransformerWrapperOptions do not judge.
void validate(const ZetaTransformerOptions& options);

/// Tokens of memory that are kept: max_mem_len whole tokens, or that share of max_seq_len where it
/// is below 1, a part of a token cut off.
int64_t kept_memory(const ZetaTransformerOptions& options);

/// The options of x-transformers' TransformerWrapper that these are, but for the embedding and the
/// memory that is kept.
TransformerWrapperOptions wrapper_options(const ZetaTransformerOptions& options);

}  // namespace x_transformers
