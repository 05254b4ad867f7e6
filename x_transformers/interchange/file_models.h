// The models of a model file, and where their options stand in it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "x_transformers/core/option_help.h"

namespace x_transformers {

/// A model that a model file describes: its own, or one that another must be given, as a wrapper
/// its net. A module that need not be given is an option's value.
struct FileModel {
  std::vector<std::string> keys;  ///< of the objects that it stands in, from the file's own on
  std::vector<OptionHelp> options;
};

/// All models of the file `config`, each before those within it; none for what has no known type.
std::vector<FileModel> models_of_file(const nlohmann::json& config);

/// The keys that lead from a model's object to its option `name`, in the spelling that it has there
/// (attn_flash, attn: {flash}); empty: it is not given.
std::vector<std::string> keys_of_option(const nlohmann::json& object, const std::string& name);

/// What stands at `keys` in `object`, where it is there.
const nlohmann::json& value_at(const nlohmann::json& object, const std::vector<std::string>& keys);
nlohmann::json& value_at(nlohmann::json& object, const std::vector<std::string>& keys);

}  // namespace x_transformers
