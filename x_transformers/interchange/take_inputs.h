// The inputs of a call, taken by name from the tensors and values of the interchange.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "x_transformers/interchange/arguments.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers {

/// Arguments of Attention.forward, with what its inputs point to.
struct AttentionCall {
  AttentionCall(Arguments& arguments, const AttentionImpl& attention);
  AttentionCall(const AttentionCall&) = delete;
  AttentionCall& operator=(const AttentionCall&) = delete;

  AttentionInputs inputs;
  std::vector<at::Tensor> cached;  ///< keys and values as given, if there is a cache

 private:
  std::shared_ptr<Model> rel_pos_;
  RotaryInputs rotary_;
  std::optional<PolarInputs> polar_;
  std::optional<PackedSequences> packed_;
  AttentionState cache_;
};

/// Arguments of AttentionLayers.forward, with the cache that its inputs point to.
struct StackCall {
  StackCall(Arguments& arguments, const AttentionLayersImpl& layers);
  StackCall(const StackCall&) = delete;
  StackCall& operator=(const StackCall&) = delete;

  AttentionLayersInputs inputs;

 private:
  std::optional<LayersCache> cache_;
};

/// Arguments of TransformerWrapper.forward but the return_ flags, with the cache that its inputs
/// point to.
struct TransformerCall {
  TransformerCall(Arguments& arguments, TransformerWrapperImpl& net);
  TransformerCall(const TransformerCall&) = delete;
  TransformerCall& operator=(const TransformerCall&) = delete;

  TransformerInputs inputs;

 private:
  TransformerCache cache_;
};

/// Arguments of TransformerWrapper.forward other than x, its cache and the return_ flags.
TransformerInputs take_transformer_inputs(Arguments& arguments);
/// flash_pack_seq_kwargs: what flash_attn's function takes, as tensors and as a JSON object.
std::optional<PackedSequences> take_packed(Arguments& arguments, const std::string& name);

}  // namespace x_transformers
