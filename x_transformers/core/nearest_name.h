// What to say of a name that is not known: which known one its writer is likely to mean.
#pragma once

#include <string>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// A hint of the option in `known` that the writer of `name`, which is not among their names, is
/// likely to mean; empty where nothing is likely. In this order: an option of that name at another
/// place, of `elsewhere`; what the word of another library is called here (core/other_words.h); the
/// part of a run that has such an option; the name that differs in the fewest letters, as a whole
/// or word by word, unless that is in most of them. The options that it speaks of stand in the text
/// by their paths.
Text nearest_option(const std::string& name, const std::vector<OptionPath>& known,
                    const std::vector<OptionPath>& elsewhere);

/// The same of names that are no options of a file: commands, arguments, kinds of things.
/// `elsewhere` has them after what they stand in: "--set train.steps".
std::string nearest_hint(const std::string& name, const std::vector<std::string>& known,
                         const std::vector<std::string>& elsewhere = {});

}  // namespace x_transformers
