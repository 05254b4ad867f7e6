// How a model that takes the options of its stack in an object (encoder_kwargs, enc_kwargs) spells
// them.
#pragma once

#include <map>
#include <string>

#include "x_transformers/core/spelling.h"

namespace x_transformers {

/// Options of the stack that the owner has itself, by the stack's names for them ({"depth",
/// "enc_depth"}), are spelled as its own, all others as within `kwargs`; where that is empty, as
/// its own too.
Spelling stack_spelling(std::map<std::string, std::string> own, OptionPath kwargs);

}  // namespace x_transformers
