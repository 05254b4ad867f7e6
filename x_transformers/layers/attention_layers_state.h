// What a call of a stack carries from layer to layer. For the stack's own sources.
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/mixing_inputs.h"

namespace x_transformers {

/// Whether layers of the type are attention, to their own tokens or to a context.
inline bool is_attention(LayerType type) {
  return type == LayerType::attention || type == LayerType::cross_attention;
}

/// What layers read and change as they run.
struct AttentionLayersImpl::State {
  at::Tensor x;
  at::Tensor dual;  ///< the second residual of resi_dual
  at::Tensor condition, inject;
  at::Tensor context, context_mask;
  at::Tensor attn_mask, attn_bias, self_attn_kv_mask;
  PositionStage position;                      ///< in place of attn_bias
  std::shared_ptr<const Documents> documents;  ///< null: each row is one
  at::Tensor started;  ///< [b, n] bool: new tokens that are no padding at the left
  std::optional<RotaryInputs> rotary, cross_rotary;
  std::optional<PolarInputs> polar;
  std::vector<std::pair<at::Tensor, at::Tensor>> additional_kv;
  at::Tensor prev_attn, prev_cross_attn;
  at::Tensor first_self_values, first_cross_values;
  std::vector<at::Tensor> skip_hiddens, layer_hiddens;
  size_t layers = 0;
  size_t self_attentions = 0, cross_attentions = 0, feed_forwards = 0;
  LayersOutput output;
};

/// Where the tokens of a call stand. Memories stand before position 0.
struct AttentionLayersImpl::Places {
  at::Tensor tokens;    ///< of the new tokens, in the sequence with its padding
  at::Tensor queries;   ///< their positions, counted from where the padding ends
  at::Tensor new_keys;  ///< positions of the keys that are added, memories among them
  int64_t memory = 0;   ///< keys of memories, cached ones too
  int64_t keys = 0;     ///< of self-attention; of a static cache all that it has room for
};

/// begin to end - 1, int64 on the device of `like`.
inline at::Tensor range_like(int64_t begin, int64_t end, const at::Tensor& like) {
  return at::arange(begin, end, at::TensorOptions().dtype(at::kLong).device(like.device()));
}

}  // namespace x_transformers
