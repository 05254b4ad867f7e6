#include "x_transformers/train/text_generation.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/generation/beam_search.h"
#include "x_transformers/generation/sequence_writer.h"
#include "x_transformers/generation/stop.h"

namespace x_transformers {
namespace {

at::Device device_of(const LanguageModel& language_model) {
  return language_model.model->module().parameters().at(0).device();
}

/// Keeps out tokens that the tokenizer lacks: a model's vocabulary may be larger, for a round
/// number.
template <class Options>
Options within_vocabulary(Options options, const LanguageModel& language_model) {
  const auto written = language_model.written_tokens();
  const auto logits = written && language_model.tokenizer ? written->count : 0;
  if (logits == 0) return options;
  for (auto token = language_model.tokenizer->vocab_size(); token < logits; ++token) {
    options.logit_bias[fmt::format("{}", token)] = -std::numeric_limits<double>::infinity();
  }
  return options;
}

/// Takes the tokens as they come, and hands them and their text on; ends at a stop string.
class TextStream {
 public:
  /// `continues`: the text goes on from a prompt that has text.
  TextStream(const LanguageModel& language_model, const TextGeneration& generation, bool continues)
      : stop_(generation.stop), generation_(generation) {
    if (language_model.tokenizer) decoder_.emplace(language_model.tokenizer, continues);
  }

  /// Whether the text ends here: a stop string has come, or nobody wants more.
  bool push(int64_t token) {
    if (generation_.options.eos_token == token) return false;
    written_.ids.push_back(token);
    if (generation_.write_id) generation_.write_id(token);
    if (decoder_) emit(stop_.push(decoder_->push(token)));
    return stop_.stopped() || (generation_.wants_stop && generation_.wants_stop());
  }
  /// What was written, without its prompt.
  WrittenText finish() {
    if (decoder_ && !stop_.stopped()) {
      emit(stop_.push(decoder_->flush()));
      emit(stop_.finish());
    }
    return written_;
  }

 private:
  void emit(const std::string& piece) {
    written_.text += piece;
    if (generation_.write && !piece.empty()) generation_.write(piece);
  }

  std::optional<StreamingDecoder> decoder_;
  StopStrings stop_;
  const TextGeneration& generation_;
  WrittenText written_;
};

/// Whether what the model writes goes on from the text of `prompt`.
bool goes_on(const LanguageModel& language_model, const std::vector<int64_t>& prompt) {
  if (!language_model.tokenizer || language_model.model->translation_writer()) return false;
  TokenBytes bytes(*language_model.tokenizer);
  for (const int64_t token : prompt) bytes.push(token);
  return bytes.has_begun();
}

/// Throws InputError for what only a model that writes token by token can do.
void require_no_steps(const TextGeneration& generation) {
  const auto& o = generation.options;
  const auto refuse = [](bool is_given, const char* name) {
    require(!is_given, at(name), "means nothing to a model that writes whole sequences");
  };
  refuse(generation.beams.has_value(), "beams");
  refuse(!generation.amateurs.empty(), "amateur");
  refuse(o.top_p.has_value(), "top_p");
  refuse(o.top_a.has_value(), "top_a");
  refuse(o.min_p.has_value(), "min_p");
  refuse(o.repetition_penalty != 1, "repetition_penalty");
  refuse(!o.logit_bias.empty(), "logit_bias");
  refuse(o.filter_logits_fn.has_value(), "filter_logits_fn");
}

/// What follows the prompt in a sequence that the model fills goes to `stream`.
void fill_text(SequenceWriter& writer, const at::Tensor& prompt,
               const LanguageModel& language_model, const TextGeneration& generation,
               TextStream& stream) {
  require_no_steps(generation);
  SequenceRequest request;
  request.temperature = generation.options.temperature;
  request.top_k = generation.options.top_k;
  request.seed = generation.options.seed;
  if (language_model.tokenizer) request.tokens = language_model.tokenizer->vocab_size();
  const auto sequence = writer.write(prompt, request).reshape(-1).to(at::kCPU);
  const auto end = std::min(sequence.numel(), prompt.size(1) + generation.options.seq_len);
  for (auto i = prompt.size(1); i < end; ++i) {
    const auto token = sequence[i].item<int64_t>();
    if (stream.push(token) || token == generation.options.eos_token) break;
  }
}

/// The best text of a beam search goes to `stream`.
void search_text(DecodingSession& session, const GenerateInputs& inputs,
                 const LanguageModel& language_model, const TextGeneration& generation,
                 TextStream& stream) {
  BeamSearchOptions options;
  options.seq_len = generation.options.seq_len;
  options.eos_token = generation.options.eos_token;
  options.beams = *generation.beams;
  options.length_penalty = generation.length_penalty;
  const auto best = beam_search(session, {inputs.prompts, inputs.pad_value, {}},
                                within_vocabulary(options, language_model))
                        .best()
                        .reshape(-1)
                        .to(at::kCPU);
  for (int64_t i = 0; i < best.numel(); ++i) {
    const auto token = best[i].item<int64_t>();
    if (stream.push(token) || token == options.eos_token) break;
  }
}

/// Whether the model has an input for every one of the tokens.
bool can_read(const LanguageModel& language_model, const std::vector<int64_t>& tokens) {
  const auto readable = language_model.readable_tokens();
  return std::all_of(tokens.begin(), tokens.end(), [&](int64_t token) {
    return token >= 0 && (!readable || token < readable->count);
  });
}

/// The tokens that a text starts from where there is no prompt.
std::vector<int64_t> usual_start(const LanguageModel& language_model) {
  const auto& tokenizer = *language_model.tokenizer;
  std::vector<std::vector<int64_t>> starts;
  const auto bos = tokenizer.bos_token();
  if (bos && language_model.may_begin_with_bos) starts.push_back({*bos});
  starts.push_back(tokenizer.encode("\n"));
  int64_t piece = 0;
  while (piece < tokenizer.vocab_size() && !tokenizer.is_piece(piece)) ++piece;
  if (piece < tokenizer.vocab_size()) starts.push_back({piece});
  const auto found = std::find_if(starts.begin(), starts.end(), [&](const auto& tokens) {
    return !tokens.empty() && can_read(language_model, tokens);
  });
  require(found != starts.end(), at("prompt"),
          "is needed: the model knows no token that a text could start from");
  return *found;
}

/// The prompt's tokens as they were given; none for an empty prompt of a model that writes whole
/// sequences.
std::vector<int64_t> given_tokens(const LanguageModel& language_model,
                                  const TextGeneration& generation) {
  const bool is_given = generation.prompt_ids || !generation.prompt.empty();
  if (!is_given && language_model.model->sequence_writer()) return {};
  require(is_given || !language_model.model->translation_writer(), at("prompt"),
          "is needed, as the model translates it");
  if (generation.prompt_ids) {
    require(!generation.prompt_ids->empty(), at("prompt_ids"), "expected at least one token");
    return *generation.prompt_ids;
  }
  const auto& tokenizer = language_model.tokenizer;
  require(tokenizer != nullptr || !is_given, at("prompt"),
          "is text, and the model was trained on tokens without {}, which says what text they are; "
          "give {}, or the vocabulary by {}",
          option(OptionPath("data") / "tokenizer"), option("prompt_ids"), option("tokenizer"));
  require(tokenizer != nullptr, at("prompt_ids"),
          "is needed: the model was trained on tokens without {}, so that no usual start of a text "
          "is known",
          option(OptionPath("data") / "tokenizer"));
  auto tokens = is_given ? tokenizer->encode(generation.prompt) : usual_start(language_model);
  require(!tokens.empty(), at("prompt"), "has no tokens in this vocabulary");
  return tokens;
}

/// Throws InputError for text where there is no tokenizer.
void require_no_text(const LanguageModel& language_model, const TextGeneration& generation) {
  require(language_model.tokenizer != nullptr || generation.stop.empty(), at("stop"),
          "is text, and the model was trained on tokens without {}; give {}, or the vocabulary by "
          "{}",
          option(OptionPath("data") / "tokenizer"), option("eos_token"), option("tokenizer"));
}

/// What follows inputs.prompts [1, n], drawn or found by beam search, goes to `stream`.
void continue_tokens(DecodingSession& session, GenerateInputs inputs,
                     const LanguageModel& language_model, const TextGeneration& generation,
                     TextStream& stream) {
  if (generation.beams) return search_text(session, inputs, language_model, generation, stream);
  inputs.callback = [&](const at::Tensor& step, int64_t) {
    return stream.push(step.item<int64_t>());
  };
  generate(session, inputs, within_vocabulary(generation.options, language_model));
}

/// `generation` up to the token that ends the targets of training, and no longer than these may be.
TextGeneration as_translation(const LanguageModel& language_model, TextGeneration generation) {
  const auto& translator = *language_model.model->translation_writer();
  require(generation.amateurs.empty(), at("amateur"), "means nothing to a model that translates");
  require(language_model.tokenizer != nullptr, at("tokenizer"),
          "is needed: it says which token begins and ends what is written");
  auto& options = generation.options;
  if (!options.eos_token) options.eos_token = boundary_token(*language_model.tokenizer);
  if (const auto longest = translator.longest_target(); longest > 0)
    options.seq_len = std::min(options.seq_len, longest - 1);
  return generation;
}

/// The translation of `source` [1, m] goes to `stream`.
void translate_tokens(const LanguageModel& language_model, const TextGeneration& generation,
                      const at::Tensor& source, TextStream& stream) {
  auto& translator = *language_model.model->translation_writer();
  const auto& options = generation.options;
  const auto session =
      translator.start_session(source, {options.seq_len, generation.static_caches, options.seed});
  GenerateInputs inputs;
  inputs.prompts = at::full({1, 1}, boundary_token(*language_model.tokenizer), source.options());
  inputs.pad_value = translator.pad_value();
  continue_tokens(*session, inputs, language_model, generation, stream);
}

/// What the model makes of the prompt goes to `stream`: one sequence that is filled, a translation,
/// or tokens one after the other.
void write_tokens(LanguageModel& language_model, const TextGeneration& generation,
                  const at::Tensor& prompt, TextStream& stream) {
  if (auto* whole = language_model.model->sequence_writer())
    return fill_text(*whole, prompt, language_model, generation, stream);
  if (language_model.model->translation_writer())
    return translate_tokens(language_model, generation, prompt, stream);
  const SessionRequest request = {generation.options.seq_len, generation.static_caches,
                                  generation.options.seed};
  const auto session = language_model.writer().start_session(request);
  GenerateInputs inputs;
  inputs.prompts = prompt;
  inputs.pad_value = language_model.writer().pad_value();
  std::vector<std::unique_ptr<DecodingSession>> amateurs;
  for (const auto& amateur : generation.amateurs) {
    amateurs.push_back(amateur->writer()->start_session(request));
    inputs.amateurs.push_back({amateurs.back().get(), generation.contrastive});
  }
  continue_tokens(*session, inputs, language_model, generation, stream);
}

}  // namespace

std::vector<int64_t> prompt_tokens(const LanguageModel& language_model,
                                   const TextGeneration& generation) {
  auto tokens = given_tokens(language_model, generation);
  const About about = at(generation.prompt_ids ? "prompt_ids" : "prompt");
  const auto readable = language_model.readable_tokens();
  for (size_t i = 0; i < tokens.size() && readable; ++i) {
    require(tokens[i] >= 0 && tokens[i] < readable->count, about,
            "token {} at position {} is out of range for {} = {}", tokens[i], i, readable->option,
            readable->count);
  }
  const auto size = static_cast<int64_t>(tokens.size()), longest = language_model.longest_prompt();
  if (longest == 0 || size <= longest) return tokens;
  require(language_model.model->translation_writer() == nullptr, about,
          "has {} tokens, more than {} = {} of what is translated", size, option("max_seq_len"),
          longest);
  require(language_model.model->sequence_writer() == nullptr, about,
          "has {} tokens, more than the {} of every sequence that the model writes", size, longest);
  warn(about, "has {} tokens, more than {} = {}: the last {} count, as in Python", size,
       option("max_seq_len"), longest, longest);
  tokens.erase(tokens.begin(), tokens.end() - longest);
  return tokens;
}

WrittenText write_text(LanguageModel& language_model, const TextGeneration& given) {
  require_no_text(language_model, given);
  auto tokens = prompt_tokens(language_model, given);
  const auto prompt = at::tensor(tokens, at::kLong).unsqueeze(0).to(device_of(language_model));
  const auto generation =
      language_model.model->translation_writer() ? as_translation(language_model, given) : given;
  const Evaluation evaluation(language_model.model->module());
  TextStream stream(language_model, generation, goes_on(language_model, tokens));
  write_tokens(language_model, generation, prompt, stream);
  auto written = stream.finish();
  written.prompt_ids = std::move(tokens);
  return written;
}

}  // namespace x_transformers
