// Options of XTransformer.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/ignored_target.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

/// One side of an XTransformer: what Python takes with the prefix enc_ or dec_.
struct XTransformerSideOptions {
  /// tokens of the vocabulary
  int64_t num_tokens = 0;
  /// tokens of the longest sequence
  int64_t max_seq_len = 0;
  /// dropout of the embeddings
  double emb_dropout = 0.0;
  /// learned tokens in front of the sequence (arXiv:2006.11527)
  std::optional<int64_t> num_memory_tokens = std::nullopt;
  /// sinusoidal positions with a learned scale
  bool scaled_sinu_pos_emb = false;
  /// learned absolute positions
  bool use_abs_pos_emb = true;
  AttentionLayersOptions attn_layers = {};

  /// The usual options of an encoder, or of a decoder with cross attention.
  static XTransformerSideOptions of(LayersKind kind);

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("num_tokens", num_tokens, "tokens of the vocabulary");
    v.required_free("max_seq_len", max_seq_len, "tokens of the longest sequence");
    v.free("emb_dropout", emb_dropout, "dropout of the embeddings");
    v("num_memory_tokens", num_memory_tokens, "learned tokens in front of the sequence",
      "arXiv:2006.11527");
    v("scaled_sinu_pos_emb", scaled_sinu_pos_emb, "sinusoidal positions with a learned scale");
    v("use_abs_pos_emb", use_abs_pos_emb, "learned absolute positions");
    attn_layers.fields(v);
  }
};

struct XTransformerOptions {
  /// features of both sides
  int64_t dim = 0;
  /// one token embedding for both sides
  bool tie_token_emb = false;
  /// targets of this value do not count in the loss
  int64_t ignore_index = kIgnoredTarget;
  /// token that stands where there is none
  int64_t pad_value = 0;
  /// part of the encoder's tokens left out in training (arXiv:2202.07765)
  double cross_attn_tokens_dropout = 0.0;
  /// encoder
  XTransformerSideOptions enc = XTransformerSideOptions::of(LayersKind::encoder);
  /// decoder
  XTransformerSideOptions dec = XTransformerSideOptions::of(LayersKind::decoder);
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of both sides");
    v("tie_token_emb", tie_token_emb, "one token embedding for both sides");
    v.free("ignore_index", ignore_index, "targets of this value do not count in the loss");
    v.free("pad_value", pad_value, "token that stands where there is none");
    v.free("cross_attn_tokens_dropout", cross_attn_tokens_dropout,
           "part of the encoder's tokens left out in training", "arXiv:2202.07765");
    v.prefix("enc", enc, "encoder", {"dim", "causal", "cross_attend", "only_cross"});
    v.prefix("dec", dec, "decoder", {"dim", "causal", "cross_attend"});
  }
};

}  // namespace x_transformers
