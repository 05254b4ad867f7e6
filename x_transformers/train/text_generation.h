// Text, or tokens, that a language model writes.
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
  /// The prompt as tokens, in place of text.
  std::optional<std::vector<int64_t>> prompt_ids = std::nullopt;
  GenerateOptions options = {};
  std::vector<std::string> stop = {};                  ///< the text ends before the first of these
  std::function<void(const std::string&)> write = {};  ///< gets the text piece by piece as it comes
  std::function<void(int64_t)> write_id = {};          ///< gets each token as it comes
  /// Asked after each token: whether to end the text there. Not where all of it comes at the end.
  std::function<bool()> wants_stop = {};
  std::optional<bool> static_caches = std::nullopt;  ///< SessionRequest::static_caches: CUDA graphs
  std::vector<std::shared_ptr<Model>> amateurs = {};  ///< smaller models to decode against
  ContrastiveDecodeOptions contrastive = {};          ///< how, for each of them
  /// Beam search instead of sampling, with seq_len and eos_token of `options`: all of the text
  /// comes at the end.
  std::optional<int64_t> beams = std::nullopt;
  double length_penalty = 0;  ///< of beam search
};

/// What was written.
struct WrittenText {
  std::vector<int64_t> prompt_ids;  ///< what the model was given
  std::vector<int64_t> ids;         ///< the new tokens, without the one that ends the text
  std::string text;                 ///< what they stand for; empty where there is no tokenizer
};

/// The tokens that the model gets for the prompt. One that is longer than max_seq_len counts by its
/// last tokens, of which the user is warned; a model that writes whole sequences refuses it. An
/// empty one stands for the usual start of a text, or, where the model writes whole sequences, for
/// no tokens. A model that translates needs one. The usual start is, where training may have seen
/// it (LanguageModel::may_begin_with_bos), the token of the vocabulary that begins a text, else a
/// line end, else the first piece of text. InputError, naming `prompt` or `prompt_ids`, for a
/// prompt that has no tokens, or some that the model does not know, and for text without a
/// tokenizer.
std::vector<int64_t> prompt_tokens(const LanguageModel& language_model,
                                   const TextGeneration& generation);

/// Continues the prompt: token by token, or, where the model writes whole sequences, with what
/// follows in one of them, with temperature, top_k and seed of the options. A model that translates
/// gives the translation of the prompt, up to eos_token or, without one, the token that ends the
/// targets of training. Throws as prompt_tokens does.
WrittenText write_text(LanguageModel& language_model, const TextGeneration& generation);

}  // namespace x_transformers
