// What a stack is given beside x in a sample call.
#pragma once

#include <string>

#include "x_transformers/interchange/model.h"
#include "x_transformers/layers/attention_layers.h"

namespace x_transformers {

/// Adds what the options of `layers` ask for: a condition, a context, boundaries of packed
/// sequences. `call.tokens` is set.
void add_stack_sample(const AttentionLayersImpl& layers, SampleCall& call);

/// Adds boundaries of one packed sequence of all tokens, as the argument `name`.
void add_packed_sample(const std::string& name, SampleCall& call);

}  // namespace x_transformers
