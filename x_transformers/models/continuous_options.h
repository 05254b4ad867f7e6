// Options of ContinuousTransformerWrapper, and the rules among them.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

/// Features in, features out: a projection, a stack of layers, a projection.
struct ContinuousTransformerWrapperOptions {
  /// positions of the longest sequence; null or 0: no absolute positions
  std::optional<int64_t> max_seq_len = std::nullopt;
  /// the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers
  AttentionLayersOptions attn_layers = {};
  /// features of the input, projected to dim; default: dim, not projected
  std::optional<int64_t> dim_in = std::nullopt;
  /// features of the output; default: dim, not projected
  std::optional<int64_t> dim_out = std::nullopt;
  /// a module in place of the projection of dim_in
  std::optional<ModuleSpec> project_in = std::nullopt;
  /// a module in place of the projection to dim_out
  std::optional<ModuleSpec> project_out = std::nullopt;
  /// tokens of Transformer-XL memory that are kept; 0: all (arXiv:1901.02860)
  int64_t max_mem_len = 0;
  /// learned tokens in front of the sequence (arXiv:2006.11527)
  std::optional<int64_t> num_memory_tokens = std::nullopt;
  /// layer norm of the embeddings (arXiv:2210.02414)
  bool post_emb_norm = false;
  /// dropout of the embeddings
  double emb_dropout = 0.0;
  /// learned absolute positions (where the stack has no others)
  bool use_abs_pos_emb = true;
  /// sinusoidal positions with a learned scale (arXiv:2202.10447)
  bool scaled_sinu_pos_emb = false;
  /// the output is of the mean over the sequence
  bool average_pool_embed = false;
  /// the output is a mean and a variance for each feature
  bool probabilistic = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("max_seq_len", max_seq_len,
           "positions of the longest sequence; null or 0: no absolute positions");
    v.required("attn_layers", attn_layers,
               "the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers");
    v.size("dim_in", dim_in,
           "features of the input, projected to dim; default: dim, not projected");
    v.size("dim_out", dim_out, "features of the output; default: dim, not projected");
    v("project_in", project_in, "a module in place of the projection of dim_in");
    v("project_out", project_out, "a module in place of the projection to dim_out");
    v.free("max_mem_len", max_mem_len, "tokens of Transformer-XL memory that are kept; 0: all",
           "arXiv:1901.02860");
    v("num_memory_tokens", num_memory_tokens, "learned tokens in front of the sequence",
      "arXiv:2006.11527");
    v("post_emb_norm", post_emb_norm, "layer norm of the embeddings", "arXiv:2210.02414");
    v.free("emb_dropout", emb_dropout, "dropout of the embeddings");
    v("use_abs_pos_emb", use_abs_pos_emb,
      "learned absolute positions (where the stack has no others)");
    v("scaled_sinu_pos_emb", scaled_sinu_pos_emb, "sinusoidal positions with a learned scale",
      "arXiv:2202.10447");
    v("average_pool_embed", average_pool_embed, "the output is of the mean over the sequence");
    v("probabilistic", probabilistic, "the output is a mean and a variance for each feature");
  }
};

/// Throws InputError, naming the option, for sizes out of range and what does not go together.
void validate(const ContinuousTransformerWrapperOptions& options);

}  // namespace x_transformers
