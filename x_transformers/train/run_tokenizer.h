// The vocabulary that a run's checkpoints carry.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "x_transformers/data/tokenizer.h"

namespace x_transformers {

/// What stands for `given`, the value of data.tokenizer, in a run that goes on: the vocabulary in
/// its checkpoint, wherever the file that it came from may be now. InputError where `given` is
/// there and is another vocabulary.
std::string resumed_tokenizer(const std::string& given, const std::filesystem::path& directory);

/// The tokenizer of a model: the vocabulary in the folder of its weights, else what the
/// data.tokenizer of its run file or config.json names. Null where the run read no text, but tokens
/// or examples without one, or `config` says nothing of data.
std::shared_ptr<const Tokenizer> saved_tokenizer(const nlohmann::json& config,
                                                 const std::filesystem::path& folder);

/// Whether the run of this config read text, as far as it says.
bool was_trained_on_text(const nlohmann::json& config);

/// The tokenizer to write with: `given`, a value of data.tokenizer, or, where it is empty,
/// saved_tokenizer. InputError where both are there and differ.
std::shared_ptr<const Tokenizer> writing_tokenizer(const std::string& given,
                                                   const nlohmann::json& config,
                                                   const std::filesystem::path& folder);

}  // namespace x_transformers
