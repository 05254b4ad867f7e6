// The vocabulary that a run's checkpoints carry.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "x_transformers/data/tokenizer.h"

namespace x_transformers {

/// What stands for `given`, the value of data.tokenizer, in a run that goes on: the vocabulary in
/// its checkpoint, wherever the file that it came from may be now. InputError where `given` is
/// there and is another vocabulary.
std::string resumed_tokenizer(const std::string& given, const std::filesystem::path& directory);

/// The tokenizer of a checkpoint: the vocabulary in it; bytes, or the file that its config.json
/// names, where there is none.
std::shared_ptr<const Tokenizer> saved_tokenizer(const std::filesystem::path& checkpoint);

}  // namespace x_transformers
