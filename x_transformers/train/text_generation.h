// Text that a language model writes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/generation/generate.h"
#include "x_transformers/train/language_model.h"

namespace x_transformers {

/// What text generation takes beside the options of sampling.
struct TextGeneration {
  std::string prompt;
  GenerateOptions options;
  std::vector<std::string> stop;                       ///< the text ends before the first of these
  std::function<void(const std::string&)> write = {};  ///< gets the text piece by piece as it comes
  std::optional<bool> static_caches = std::nullopt;  ///< SessionRequest::static_caches: CUDA graphs
  std::vector<std::shared_ptr<Model>> amateurs = {};  ///< smaller models to decode against
  ContrastiveDecodeOptions contrastive = {};          ///< how, for each of them
  /// Beam search instead of sampling, with seq_len and eos_token of `options`: all of the text
  /// comes at the end.
  std::optional<int64_t> beams = std::nullopt;
  double length_penalty = 0;  ///< of beam search
};

/// The tokens of a prompt; an empty one stands for a line end, or, where the model writes whole
/// sequences, for none. InputError for one that is longer than max_seq_len or has tokens that the
/// model does not know, and for an empty one that is to be translated.
std::vector<int64_t> prompt_tokens(const LanguageModel& language_model, const std::string& prompt);

/// Continues the prompt and returns the new text: token by token, or, where the model writes whole
/// sequences, what follows in one of them, with temperature, top_k and seed of the options. A model
/// that translates gives the translation of the prompt, up to eos_token or, without one, the token
/// that ends the targets of training. Throws as prompt_tokens does.
std::string write_text(LanguageModel& language_model, const TextGeneration& generation);

}  // namespace x_transformers
