// Models whose linear layers are quantized: smaller, and faster to decode.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>

#include "x_transformers/ops/quantized_weight.h"

namespace x_transformers {

/// What became of a model's weights.
struct QuantizedModel {
  int64_t weights = 0;          ///< quantized
  int64_t quantized_bytes = 0;  ///< what they take
  int64_t other_bytes = 0;      ///< what all other parameters take
  int64_t bytes_before = 0;     ///< what all parameters took
};

/// Quantizes the linear layers of the model's blocks, such as attention and feed-forward, and those
/// that make its logits, unless they are a few weights or their inputs are no whole groups
/// (can_quantize). Embeddings, norms, biases and all else stay, and so do logits by the table of
/// embeddings (tie_embedding). The model has no gradients afterwards, and what its state_dict has
/// for these weights are bytes. InputError where there is nothing to quantize.
QuantizedModel quantize_model(torch::nn::Module& model, Quantization quantization);

}  // namespace x_transformers
