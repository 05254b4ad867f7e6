// A language model as trained and written with: an autoregressive wrapper, its tokenizer, and where
// it came from.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/data/tokenizer.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/train/run_options.h"
#include "x_transformers/train/trainer.h"

namespace x_transformers {

/// The model of a run file. A net over tokens, such as a TransformerWrapper, comes within an
/// AutoregressiveWrapper. InputError as of build_model.
std::shared_ptr<Model> build_trainable_model(const nlohmann::json& config,
                                             const std::string& where);

/// Trains the model of a run and leaves the run's folder (checkpoint.h) in `directory`. With
/// `resume` goes on from the folder's latest checkpoint, with the vocabulary that is in it. Throws
/// as Trainer does, and InputError when data.tokenizer names another vocabulary than that of the
/// checkpoint.
TrainResult train_language_model(const RunOptions& run, const std::filesystem::path& directory,
                                 bool resume);

/// Why training steps of `model` on `device` run one operation after the other and not as a CUDA
/// graph; empty: they can be captured.
std::string graph_step_refusal(Model& model, const at::Device& device);

/// A trained model, loaded for writing.
struct LanguageModel {
  std::shared_ptr<Model> model;  ///< one with a writer
  std::shared_ptr<const Tokenizer> tokenizer;

  TokenWriter& writer() const { return *model->writer(); }
};

/// Loads a run's folder, one of its checkpoints, or a model.safetensors with its config.json (and
/// tokenizer.model, if it has one) beside it. InputError where something is missing or does not
/// fit.
LanguageModel load_language_model(const std::filesystem::path& path, at::Device device,
                                  at::ScalarType dtype);

/// What text generation takes beside the options of sampling.
struct TextGeneration {
  std::string prompt;
  GenerateOptions options;
  std::vector<std::string> stop;                       ///< the text ends before the first of these
  std::function<void(const std::string&)> write = {};  ///< gets the text piece by piece as it comes
  std::optional<bool> fixed_caches = std::nullopt;    ///< SessionOptions::fixed_caches: CUDA graphs
  std::vector<std::shared_ptr<Model>> amateurs = {};  ///< smaller models to decode against
  ContrastiveDecodeOptions contrastive = {};          ///< how, for each of them
  /// Beam search instead of sampling, with seq_len and eos_token of `options`: all of the text
  /// comes at the end.
  std::optional<int64_t> beams = std::nullopt;
  double length_penalty = 0;  ///< of beam search
};

/// Continues the prompt and returns the new text. An empty prompt stands for a line end. InputError
/// for one that is longer than max_seq_len or has tokens that the model does not know.
std::string write_text(LanguageModel& language_model, const TextGeneration& generation);

}  // namespace x_transformers
