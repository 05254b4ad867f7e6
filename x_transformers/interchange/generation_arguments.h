// Arguments of generate and beam_search.
#pragma once

#include <initializer_list>
#include <vector>

#include "x_transformers/interchange/arguments.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers {

/// The prompts, named `prompts_name`, and how they are decoded.
GenerationInputs take_generation_inputs(Arguments& arguments, const char* prompts_name,
                                        AutoregressiveWrapperImpl& model);

/// Python's amateur_model and contrastive_decode_kwargs, one or several: the models by their
/// configs, with their weights among the inputs, as amateur_model.NAME or amateur_model.INDEX.NAME.
std::vector<GenerationInputs::AmateurNet> take_amateurs(Arguments& arguments,
                                                        AutoregressiveWrapperImpl& expert);

/// What Python hands on to the model, and nobody reads there: flags, and cache_age.
void take_without_effect(Arguments& arguments, std::initializer_list<const char*> flags);
void take_without_effect_in_generation(Arguments& arguments);

/// Throws InputError unless the model embeds the tokens of a loss and has logits for the targets;
/// those that do not count have a value of their own.
void require_tokens_of_loss(const at::Tensor& x, const char* name, const TokenModel& net,
                            int64_t ignore_index);
void require_tokens_of_loss(const at::Tensor& x, const char* name,
                            const AutoregressiveWrapperImpl& model);

}  // namespace x_transformers
