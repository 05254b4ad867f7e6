// A language model: a model that writes and its tokenizer, and how a checkpoint becomes one.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "x_transformers/core/spelling.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/generation/sequence_writer.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/generation/translation_writer.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/models/quantized.h"
#include "x_transformers/runs/checkpoint_tensors.h"

namespace x_transformers {

/// The model of a run file, as it is trained: a net over tokens, such as a TransformerWrapper,
/// comes within a wrapper (wrap_net). InputError as of build_model.
std::shared_ptr<Model> build_trainable_model(const nlohmann::json& config, const OptionPath& where);

/// How its options are spelled in the file that has `config` at `where`.
Spelling trainable_spelling(const nlohmann::json& config, const OptionPath& where);

/// A ModelSpelling for such models.
SpelledModel trainable_model_spelling(const std::string& model);

/// A trained model, loaded for writing.
struct LanguageModel {
  std::shared_ptr<Model> model;                ///< one that writes
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null: nobody says what text its tokens are
  /// Whether the vocabulary's token that begins a text may stand at the beginning of one: not where
  /// training read text, of which the tokenizer made tokens without it.
  bool may_begin_with_bos = true;
  std::optional<QuantizedModel> quantized = {};  ///< where it was asked for

  /// InputError where it writes in another way.
  TokenWriter& writer() const;
  /// What each kind of writer knows: the tokens that it can read and write (empty where a module
  /// from the options decides), and those of the longest prompt, or source of a translation (0:
  /// any).
  std::optional<TokenLimit> readable_tokens() const;
  std::optional<TokenLimit> written_tokens() const;
  int64_t longest_prompt() const;
};

/// Where the parts of a language model stand.
struct LanguageModelFiles {
  /// A run's folder, one of its checkpoints, a folder with weights, a config.json and perhaps a
  /// tokenizer.model, or the file of weights in one of these: any that load_model_weights reads.
  std::filesystem::path path;
  /// What describes the model: a model file or a run file. Empty: the config.json beside the
  /// weights, which is one of these two, too.
  std::filesystem::path config = {};
  /// A value of data.tokenizer, for files that say nothing of one. Empty: what they say; where they
  /// say nothing of data either and the model has 256 tokens, these are taken for bytes.
  std::string tokenizer = {};
  WeightSelection selection = {};  ///< of the file of weights
};

/// Loads a model that writes, in eval mode and without gradients. Weights of a net fit a wrapper
/// around it, and the reverse. InputError where something is missing, damaged or does not fit.
/// `quantize`: the linear layers (models/quantized.h), from the weights as they are in the file.
LanguageModel load_language_model(const LanguageModelFiles& files, at::Device device = at::kCPU,
                                  at::ScalarType dtype = at::kFloat,
                                  Quantization quantize = Quantization::none);

}  // namespace x_transformers
