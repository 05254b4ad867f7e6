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
  std::optional<int64_t> max_seq_len = std::nullopt;
  AttentionLayersOptions attn_layers = {};
  std::optional<int64_t> dim_in = std::nullopt;
  std::optional<int64_t> dim_out = std::nullopt;
  std::optional<ModuleSpec> project_in = std::nullopt;
  std::optional<ModuleSpec> project_out = std::nullopt;
  int64_t max_mem_len = 0;
  std::optional<int64_t> num_memory_tokens = std::nullopt;
  bool post_emb_norm = false;
  double emb_dropout = 0.0;
  bool use_abs_pos_emb = true;
  bool scaled_sinu_pos_emb = false;
  bool average_pool_embed = false;
  bool probabilistic = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v("max_seq_len", max_seq_len,
      "positions of the longest sequence; null or 0: no absolute positions");
    v.required("attn_layers", attn_layers,
               "the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers");
    v.size("dim_in", dim_in,
           "features of the input, projected to dim; default: dim, not projected");
    v.size("dim_out", dim_out, "features of the output; default: dim, not projected");
    v("project_in", project_in, "a module in place of the projection of dim_in");
    v("project_out", project_out, "a module in place of the projection to dim_out");
    v("max_mem_len", max_mem_len, "tokens of Transformer-XL memory that are kept; 0: all",
      "arXiv:1901.02860");
    v("num_memory_tokens", num_memory_tokens, "learned tokens in front of the sequence",
      "arXiv:2006.11527");
    v("post_emb_norm", post_emb_norm, "layer norm of the embeddings", "arXiv:2210.02414");
    v("emb_dropout", emb_dropout, "dropout of the embeddings");
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
