// Options of XValTransformerWrapper, and the rules among them.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

/// Tokens and numbers in, logits and numbers out.
struct XValTransformerWrapperOptions {
  /// tokens of the vocabulary
  int64_t num_tokens = 0;
  /// tokens of the longest sequence
  int64_t max_seq_len = 0;
  /// the token that stands for a number, which scales its embedding (arXiv:2310.02989)
  int64_t numerical_token_id = 0;
  /// the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers
  AttentionLayersOptions attn_layers = {};
  /// features of the embeddings; as in Python it can be dim alone
  std::optional<int64_t> emb_dim = std::nullopt;
  /// features of the logits; default: num_tokens
  std::optional<int64_t> logits_dim = std::nullopt;
  /// logits by the token embeddings (arXiv:1608.05859)
  bool tie_embedding = false;
  /// tokens of Transformer-XL memory that are kept; 0: all (arXiv:1901.02860)
  int64_t max_mem_len = 0;
  /// learned tokens in front of the sequence (arXiv:2006.11527)
  std::optional<int64_t> num_memory_tokens = std::nullopt;
  /// dropout of the embeddings
  double emb_dropout = 0.0;
  /// learned absolute positions (where the stack has no others)
  bool use_abs_pos_emb = true;
  /// sinusoidal positions with a learned scale (arXiv:2202.10447)
  bool scaled_sinu_pos_emb = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("num_tokens", num_tokens, "tokens of the vocabulary");
    v.required_free("max_seq_len", max_seq_len, "tokens of the longest sequence");
    v.required("numerical_token_id", numerical_token_id,
               "the token that stands for a number, which scales its embedding",
               "arXiv:2310.02989");
    v.required("attn_layers", attn_layers,
               "the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers");
    v("emb_dim", emb_dim, "features of the embeddings; as in Python it can be dim alone");
    v("logits_dim", logits_dim, "features of the logits; default: num_tokens");
    v("tie_embedding", tie_embedding, "logits by the token embeddings", "arXiv:1608.05859");
    v.free("max_mem_len", max_mem_len, "tokens of Transformer-XL memory that are kept; 0: all",
           "arXiv:1901.02860");
    v("num_memory_tokens", num_memory_tokens, "learned tokens in front of the sequence",
      "arXiv:2006.11527");
    v.free("emb_dropout", emb_dropout, "dropout of the embeddings");
    v("use_abs_pos_emb", use_abs_pos_emb,
      "learned absolute positions (where the stack has no others)");
    v("scaled_sinu_pos_emb", scaled_sinu_pos_emb, "sinusoidal positions with a learned scale",
      "arXiv:2202.10447");
  }
};

/// Throws InputError, naming the option, for sizes out of range and what does not go together.
void validate(const XValTransformerWrapperOptions& options);

}  // namespace x_transformers
