// A language model: an autoregressive wrapper and its tokenizer, and how a checkpoint becomes one.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "x_transformers/data/tokenizer.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers {

/// The model of a run file: an AutoregressiveWrapper, or a TransformerWrapper, which is wrapped in
/// one. InputError for another type, and for what the types themselves refuse.
AutoregressiveWrapper build_language_model(const nlohmann::json& config, const std::string& where);

/// The JSON text of such a model with every option in one spelling, defaults included (a
/// ModelSpelling of checkpoint_tensors.h).
std::string language_model_spelling(const std::string& model);

/// A trained model, loaded for writing.
struct LanguageModel {
  AutoregressiveWrapper model{nullptr};
  std::shared_ptr<const Tokenizer> tokenizer;
};

/// Loads a run's folder, one of its checkpoints, or a model.safetensors with its config.json (and
/// tokenizer.model, if it has one) beside it. InputError where something is missing or does not
/// fit.
LanguageModel load_language_model(const std::filesystem::path& path, at::Device device,
                                  at::ScalarType dtype);

}  // namespace x_transformers
