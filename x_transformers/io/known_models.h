// Models of other libraries, known by the names of their weights.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace x_transformers {

/// What weights of these names are of: "GPT-2 (nanoGPT, Hugging Face)". Empty: of no model that is
/// known here, or of x-transformers.
std::string known_model(const std::vector<std::string>& names);

/// What to say of weights with these names, which do not fit, in a sentence; empty: nothing.
std::string known_model_hint(const std::vector<std::string>& names);

/// Whether a model's class is called so in Hugging Face's transformers: GPT2LMHeadModel.
bool is_hugging_face_class(const std::string& name);

/// Throws InputError, naming `path`, where a JSON file is the configuration of a model of Hugging
/// Face.
void require_own_config(const nlohmann::json& config, const std::string& path);

}  // namespace x_transformers
