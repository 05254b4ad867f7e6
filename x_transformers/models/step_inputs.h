// What one step of decoding takes of inputs that have an entry for each token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
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
  int64_t prepended = 0;   ///< of those, the prepended embeddings, which have outputs
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

/// Whether memories are of two lengths, or of fewer than the `attentions`: a cache has one length.
bool has_mems_of_two_lengths(const std::vector<at::Tensor>& mems, size_t attentions);

/// Why these inputs, of a model with `attentions` self-attentions, need whole sequences where a
/// cache would be; empty: they do not.
template <class Inputs>
Text whole_sequence_unsupported(const Inputs& inputs, size_t attentions) {
  if (has_mems_of_two_lengths(inputs.mems, attentions)) return "mems are of two lengths";
  Text reason;
  any_given(inputs, [&](const char* name, const InputField& field) {
    const bool is_whole = field.beside_cache == BesideCache::whole;
    if (is_whole) reason = text("{} relates tokens to each other", option(name));
    return is_whole;
  });
  return reason;
}

/// Whether a step that goes on from a cache is given something else than the one before it.
template <class Inputs>
bool varies_by_step(const Inputs& inputs) {
  bool varies = false;
  each_input_within(inputs, [&](const char*, const at::Tensor& t, const InputField& field) {
    const auto kind = field.beside_cache;
    varies = varies || kind == BesideCache::grown ||
             (kind == BesideCache::cut && has_entry_for_each_token(t, field));
  });
  return varies;
}

/// Whether some input is about tokens one by one, so that none of them can be left out.
bool is_about_tokens(const TransformerInputs& inputs);

}  // namespace x_transformers
