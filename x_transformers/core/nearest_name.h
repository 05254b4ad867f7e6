// What to say of a name that is not known: which known one its writer is likely to mean.
#pragma once

#include <string>
#include <vector>

namespace x_transformers {

/// A hint of the name in `known` that the writer of `name`, which is not among them, is likely to
/// mean; empty where nothing is likely. In this order: the same name at another place, of
/// `elsewhere` ("attn_layers.depth"); what the word of another library is called here
/// (core/other_words.h); the part of a run that has such an option; the name that differs in the
/// fewest letters, as a whole or word by word, unless that is in most of them.
std::string nearest_hint(const std::string& name, const std::vector<std::string>& known,
                         const std::vector<std::string>& elsewhere = {});

}  // namespace x_transformers
