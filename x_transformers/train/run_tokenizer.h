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

/// The tokenizer of a checkpoint: the vocabulary in it, else what the data.tokenizer of its
/// config.json names. Null where the run read no text, but tokens or examples without one, or
/// config.json says nothing of data.
std::shared_ptr<const Tokenizer> saved_tokenizer(const std::filesystem::path& checkpoint);

/// Whether the run of a checkpoint read text, as far as its config.json says.
bool was_trained_on_text(const std::filesystem::path& checkpoint);

/// The tokenizer to write with: `given`, a value of data.tokenizer, or, where it is empty, that of
/// the checkpoint. InputError where both are there and differ.
std::shared_ptr<const Tokenizer> writing_tokenizer(const std::string& given,
                                                   const std::filesystem::path& checkpoint);

}  // namespace x_transformers
