// A small language model for tests of wrappers.
#pragma once

#include <ATen/ATen.h>

#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

inline constexpr int64_t kSmallVocabulary = 13;

inline TransformerWrapperOptions small_net_options(LayersKind kind = LayersKind::decoder) {
  TransformerWrapperOptions options;
  options.num_tokens = kSmallVocabulary;
  options.max_seq_len = 16;
  options.attn_layers.kind = kind;
  options.attn_layers.dim = 16;
  options.attn_layers.depth = 1;
  options.attn_layers.heads = 2;
  options.attn_layers.attn.dim_head = 8;
  return options;
}

inline TransformerWrapper small_net(LayersKind kind = LayersKind::decoder) {
  return TransformerWrapper(small_net_options(kind));
}

inline at::Tensor random_tokens(int64_t batch, int64_t length,
                                int64_t vocabulary = kSmallVocabulary) {
  return at::randint(vocabulary, {batch, length}, at::kLong);
}

}  // namespace x_transformers
