// A language model: a model that writes and its tokenizer, and how a checkpoint becomes one.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "x_transformers/core/notice.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/generation/sequence_writer.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/generation/translation_writer.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/io/weight_file.h"

namespace x_transformers {

/// The model of a run file, as it is trained: a net over tokens, such as a TransformerWrapper,
/// comes within a wrapper (wrap_net). InputError as of build_model.
std::shared_ptr<Model> build_trainable_model(const nlohmann::json& config, const OptionPath& where);

/// The JSON text of such a model with every option in one spelling, defaults included (a
/// ModelSpelling of checkpoint_tensors.h).
std::string trainable_model_spelling(const std::string& model);

/// A trained model, loaded for writing.
struct LanguageModel {
  std::shared_ptr<Model> model;                ///< one that writes
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null: nobody says what text its tokens are
  /// Whether the vocabulary's token that begins a text may stand at the beginning of one: not where
  /// training read text, of which the tokenizer made tokens without it.
  bool may_begin_with_bos = true;

  /// InputError where it writes in another way.
  TokenWriter& writer() const;
  /// What each kind of writer knows: the tokens that it can read and write (empty where a module
  /// from the options decides), and those of the longest prompt, or source of a translation (0:
  /// any).
  std::optional<TokenLimit> readable_tokens() const;
  std::optional<TokenLimit> written_tokens() const;
  int64_t longest_prompt() const;
};

/// Loads a run's folder, one of its checkpoints, or a model.safetensors with its config.json (and
/// tokenizer.model, if it has one) beside it; in place of the last, any file of weights
/// (load_model_weights), of which `selection` says what is meant. `tokenizer` is a value of
/// data.tokenizer for a run that has none. InputError where something is missing, damaged or does
/// not fit.
LanguageModel load_language_model(const std::filesystem::path& path, at::Device device,
                                  at::ScalarType dtype, const std::string& tokenizer = "",
                                  const WeightSelection& selection = {});

}  // namespace x_transformers
