// What one step of decoding takes of inputs that have an entry for each token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "x_transformers/core/inputs.h"
#include "x_transformers/models/token_inputs.h"

namespace x_transformers {

/// The tokens that a step runs: `count` from `begin`, which see nothing before `window`.
struct TokenSpan {
  int64_t begin = 0, count = 0, window = 0;
  int64_t end() const { return begin + count; }
  int64_t prompt = 0;  ///< tokens of the first step, for which masks of keys were given
  int64_t prefix =
      0;  ///< entries of the stack in front of token 0: memory tokens and prepended embeddings
  bool has_prefix = true;  ///< the step runs them too; else they are cached
};

/// Cuts an input with an entry for each token, after span.prefix others, to those of the step; a
/// mask of tokens or keys grows: what was generated exists. InputError names what has too few
/// entries, as it cannot grow.
void cut_to_step(at::Tensor& t, const char* name, const InputField& field, const TokenSpan& span);
/// The same for all of `inputs`.
template <class Inputs>
void cut_to_step(Inputs& inputs, const TokenSpan& span) {
  each_input(inputs, [&](const char* name, at::Tensor& t, const InputField& field) {
    cut_to_step(t, name, field, span);
  });
}

/// The inputs of a step, of a model whose inputs have those of its stack as `layers`.
template <class Inputs>
Inputs step_inputs(const Inputs& given, const TokenSpan& span) {
  auto inputs = given;
  // The model itself is given nothing for what stands in front of the tokens.
  auto own = span;
  own.prefix = 0;
  cut_to_step(inputs, own);
  cut_to_step(inputs.layers, span);
  return inputs;
}

/// Whether an input of the model or its stack is one that `is_wanted(tensor, field)`.
template <class Inputs, class IsWanted>
bool any_input(const Inputs& inputs, IsWanted is_wanted) {
  bool result = false;
  const auto look = [&](const char*, const at::Tensor& t, const InputField& field) {
    result = result || is_wanted(t, field);
  };
  each_input(inputs, look);
  each_input(inputs.layers, look);
  return result;
}

/// Whether memories of `attentions` self-attentions are not all of one length.
bool are_of_two_lengths(const std::vector<at::Tensor>& mems, size_t attentions);

/// Whether some input relates tokens to each other in a way that a cache does not know: whole
/// sequences must be run.
/// `attentions` is the number of self-attentions that may have mems.
template <class Inputs>
bool needs_whole_sequence(const Inputs& inputs, size_t attentions) {
  return are_of_two_lengths(inputs.mems, attentions) ||
         inputs.layers.layers_execute_order.has_value() ||
         any_input(inputs, [](const at::Tensor&, const InputField& field) {
           return field.beside_cache == BesideCache::whole;
         });
}

/// Whether a step that goes on from a cache is given something else than the one before it.
bool varies_by_step(const TransformerInputs& inputs);

/// Whether some input is about tokens one by one, so that none of them can be left out.
bool is_about_tokens(const TransformerInputs& inputs);

/// Row r of everything with a row for each of the `batch` sequences is what was row rows[r].
void reorder(TransformerInputs& inputs, const at::Tensor& rows, int64_t batch);

}  // namespace x_transformers
