// What one step of decoding takes of inputs that have an entry for each token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

/// The tokens that a step runs: `count` from `begin`, which see nothing before `window`.
struct TokenSpan {
  int64_t begin = 0, count = 0, window = 0;
  int64_t end() const { return begin + count; }
  int64_t prompt = 0;  ///< tokens of the first step, for which masks of keys were given
  int64_t prefix =
      0;  ///< entries of the stack in front of token 0: memory tokens and prepended embeddings
};

/// The inputs of a step. Masks of tokens and keys grow: what was generated exists. Everything else
/// with an entry for each token is cut to the step's tokens; InputError names what has too few
/// entries, as it cannot grow.
TransformerInputs step_inputs(const TransformerInputs& inputs, const TokenSpan& span);

/// Whether some input relates tokens to each other in a way that a cache does not know: whole
/// sequences must be run.
/// `attentions` is the number of self-attentions that may have mems.
bool needs_whole_sequence(const TransformerInputs& inputs, size_t attentions);

/// Row r of everything with a row for each of the `batch` sequences is what was row rows[r].
void reorder(TransformerInputs& inputs, const at::Tensor& rows, int64_t batch);

}  // namespace x_transformers
