// A kv cache given to a forward, as Python's `cache` (LayerIntermediates).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "x_transformers/interchange/arguments.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers {

/// Python's stack counts positions from the cache's end, its wrapper from the start of the input.
enum class CacheTaker { stack, wrapper };

/// For whom a cache is taken, and how many of its tokens stand before those of x (memory tokens,
/// prepended embeddings).
struct CacheUse {
  CacheTaker taker;
  int64_t prefix = 0;
};

/// The cache among the arguments, if there is one; x [b, n, ...] then becomes its new tokens
/// (cache_age, input_not_include_cache). Throws InputError for shapes that do not fit the stack and
/// for a length that does not fit x.
std::optional<LayersCache> take_cache(Arguments& arguments, const AttentionLayersImpl& layers,
                                      at::Tensor& x, const CacheUse& use);

/// The cache of a lone Attention among the arguments (cache.cached_kv); empty without one.
/// Throws InputError for shapes that do not fit.
std::vector<at::Tensor> take_cached_kv(Arguments& arguments, const AttentionOptions& options,
                                       int64_t batch);

/// What of a sequence is new beside a cache. What is given for each token goes with the new ones.
struct NewTokens {
  int64_t count;  ///< new tokens, the last ones
  int64_t all;    ///< they and all that is cached
  int64_t
      prefix;  ///< of those, what stands before the tokens (memory tokens, prepended embeddings)

  /// Keeps the last `count` entries along `dim`, counted from the end. Throws InputError, with
  /// `name`, unless there is one entry, or one for each new token, each token, or each of all.
  void cut(at::Tensor& t, int64_t dim, const char* name) const;
  /// Cuts the arguments of a stack.
  void keep(AttentionLayersInputs& inputs) const;
};

}  // namespace x_transformers
