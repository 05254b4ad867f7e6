// The words that users of nanoGPT, Hugging Face and PyTorch know, and what they are called here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Where options stand.
enum class WordPlace : uint8_t { model, data, train, generate, program };

struct OtherWord {
  std::vector<std::string> own_names;    ///< of options, without the objects they stand in
  std::string note = {};                 ///< what differs
  Text instead = {};                     ///< what there is where none of these options is
  WordPlace place = WordPlace::program;  ///< of the options
};

/// What the word `name` of another library may be here, the likeliest first; see plain_name.
const std::vector<OtherWord>& other_words(const std::string& name);

/// Where an option of the name `name` stands, of those that words lead to; empty: none is known.
std::optional<WordPlace> place_of_option(const std::string& name);

/// `name` in lower case, with _ for - and none of these in front: of --Top-K, top_k.
std::string plain_name(const std::string& name);

}  // namespace x_transformers
