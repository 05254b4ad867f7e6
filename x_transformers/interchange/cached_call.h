// A call of a whole model that goes on from a cache given from outside.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "x_transformers/core/tensor_check.h"
#include "x_transformers/interchange/given_cache.h"
#include "x_transformers/models/token_inputs.h"

namespace x_transformers {

/// Entries of the stack in front of the tokens of a call: memory tokens, and `prepend_embeds`
/// [b, m, emb_dim]; those of another shape are refused later, by name.
inline int64_t entries_before_tokens(std::optional<int64_t> num_memory_tokens,
                                     const at::Tensor& prepend_embeds) {
  const bool prepends = prepend_embeds.defined() && prepend_embeds.dim() == 3;
  return num_memory_tokens.value_or(0) + (prepends ? prepend_embeds.size(1) : 0);
}

/// Embeddings that are cached are not prepended again; which of them exist goes into the mask of
/// all keys. x [b, new, ...] are the new tokens.
void drop_prepended(const at::Tensor& x, const NewTokens& tokens, at::Tensor& mask,
                    at::Tensor& prepend_embeds, at::Tensor& prepend_mask);

/// Has `inputs`, for new tokens x [b, new, ...], go on from `layers`, which becomes the cache of
/// `cache`. `prefix` of its tokens stand in front of those of the sequence.
template <class Inputs>
void use_cache(TransformerCache& cache, LayersCache layers, int64_t prefix, const at::Tensor& x,
               Inputs& inputs) {
  require_tensor(inputs.prepend_embeds, "prepend_embeds", TensorKind::floating,
                 {{"batch", x.size(0), true}, {"prepended"}, {"emb_dim"}});
  const auto prepended = inputs.prepend_embeds.defined() ? inputs.prepend_embeds.size(1) : 0;
  const NewTokens tokens = {x.size(1), layers.length + x.size(1), prefix, prepended};
  cache.layers = std::move(layers);
  cache.prefix = prefix;
  inputs.cache = &cache;
  if constexpr (requires { inputs.prepend_mask; }) {
    drop_prepended(x, tokens, inputs.mask, inputs.prepend_embeds, inputs.prepend_mask);
  } else {
    at::Tensor none;
    drop_prepended(x, tokens, inputs.mask, inputs.prepend_embeds, none);
  }
  tokens.cut(inputs);
}

}  // namespace x_transformers
