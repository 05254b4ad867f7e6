// A kv cache given to a forward, as Python's `cache` (LayerIntermediates).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/inputs.h"
#include "x_transformers/interchange/arguments.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers {

/// Python's stack counts positions from the cache's end, its wrapper from the start of the input.
enum class CacheTaker { stack, wrapper };

/// For whom a cache is taken.
struct CacheUse {
  CacheTaker taker;
  const AttentionLayersInputs& inputs;  ///< what else the stack is given
  const at::Tensor& pos;            ///< where the stack's tokens stand; undefined: in their order
  const at::Tensor& seq_start_pos;  ///< [b] tokens before are padding at the left
  int64_t prefix = 0;  ///< cached tokens before those of x: memory tokens, prepended embeddings
  bool leaves_out_cached = false;  ///< input_not_include_cache, unless the arguments say otherwise
};

/// The cache among the arguments, if there is one; x [b, n, ...] then becomes its new tokens
/// (cache_age, input_not_include_cache). Throws InputError for shapes that do not fit the stack,
/// for a length that does not fit x, and with the reason where keys and values are not all that
/// the layers need of earlier tokens.
std::optional<LayersCache> take_cache(Arguments& arguments, const AttentionLayersImpl& layers,
                                      at::Tensor& x, const CacheUse& use);

/// The cache of a lone Attention among the arguments (cache.cached_kv); empty without one. Throws
/// InputError for shapes that do not fit, and with the reason where the attention needs more of
/// earlier tokens.
std::vector<at::Tensor> take_cached_kv(Arguments& arguments, const AttentionImpl& attention,
                                       int64_t batch);

/// What of a sequence is new beside a cache. What is given for each token goes with the new ones.
struct NewTokens {
  int64_t count;  ///< new tokens, the last ones
  int64_t all;    ///< they and all that is cached
  /// Of those, what stands before the tokens (memory tokens, prepended embeddings).
  int64_t prefix;
  int64_t prepended = 0;  ///< of these, the embeddings, which have outputs

  /// Keeps the last `count` entries along `dim`, counted from the end. Throws InputError, with
  /// `name`, unless there is one entry, or one for each new token, each token, or each of all.
  void cut(at::Tensor& t, int64_t dim, const char* name) const;
  /// The same for all inputs that have an entry for each token, also those of structs within.
  template <class Inputs>
  void cut(Inputs& inputs) const {
    each_input_within(inputs, [&](const char* name, at::Tensor& t, const InputField& field) {
      if (field.beside_cache != BesideCache::cut) return;
      if (const auto dim = find_axis(t, field, Axis::tokens); dim != 0) cut(t, dim, name);
      if (const auto dim = find_axis(t, field, Axis::outputs); dim != 0) cut(t, dim, name);
    });
  }
};

}  // namespace x_transformers
