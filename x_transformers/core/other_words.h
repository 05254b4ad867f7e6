// The words that users of nanoGPT, Hugging Face and PyTorch know, and what they are called here.
#pragma once

#include <string>
#include <vector>

namespace x_transformers {

struct OtherWord {
  std::vector<std::string> own_names;  ///< of options, without the objects they stand in
  std::string note = {};               ///< what differs
  std::string instead = {};            ///< what there is where none of these options is
};

/// What the word `name` of another library is here, or null; see plain_name.
const OtherWord* other_word(const std::string& name);

/// `name` in lower case, with _ for - and none of these in front: of --Top-K, top_k.
std::string plain_name(const std::string& name);

}  // namespace x_transformers
