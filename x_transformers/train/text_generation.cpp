#include "x_transformers/train/text_generation.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/generation/beam_search.h"
#include "x_transformers/generation/sequence_writer.h"
#include "x_transformers/generation/stop.h"
#include "x_transformers/generation/translation_writer.h"

namespace x_transformers {
namespace {

/// A token that starts a text where there is no prompt.
constexpr const char* kEmptyPrompt = "\n";

at::Device device_of(const LanguageModel& language_model) {
  return language_model.model->module().parameters().at(0).device();
}

/// Keeps out tokens that the tokenizer lacks: a model's vocabulary may be larger, for a round
/// number.
template <class Options>
Options within_vocabulary(Options options, const LanguageModel& language_model) {
  const auto written = language_model.written_tokens();
  const auto logits = written ? written->count : 0;
  for (auto token = language_model.tokenizer->vocab_size(); token < logits; ++token) {
    options.logit_bias[fmt::format("{}", token)] = -std::numeric_limits<double>::infinity();
  }
  return options;
}

/// Decodes what comes, ends at a stop string, and hands the text on.
class TextStream {
 public:
  TextStream(const std::shared_ptr<const Tokenizer>& tokenizer, const TextGeneration& generation)
      : decoder_(tokenizer, true), stop_(generation.stop), generation_(generation) {}

  /// Whether a stop string has come.
  bool push(int64_t token) {
    if (generation_.options.eos_token == token) return false;
    emit(stop_.push(decoder_.push(token)));
    return stop_.stopped();
  }
  std::string finish() {
    if (!stop_.stopped()) {
      emit(stop_.push(decoder_.flush()));
      emit(stop_.finish());
    }
    return text_;
  }

 private:
  void emit(const std::string& piece) {
    text_ += piece;
    if (generation_.write && !piece.empty()) generation_.write(piece);
  }

  StreamingDecoder decoder_;
  StopStrings stop_;
  const TextGeneration& generation_;
  std::string text_;
};

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
  request.tokens = language_model.tokenizer->vocab_size();
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

/// What follows inputs.prompts [1, n] goes to `stream`.
void write_tokens(DecodingSession& session, GenerateInputs inputs,
                  const LanguageModel& language_model, const TextGeneration& generation,
                  TextStream& stream) {
  if (generation.beams) return search_text(session, inputs, language_model, generation, stream);
  inputs.callback = [&](const at::Tensor& step, int64_t) {
    return stream.push(step.item<int64_t>());
  };
  generate(session, inputs, within_vocabulary(generation.options, language_model));
}

/// The translation of `source` [1, m].
std::string translate_text(TranslationWriter& translator, const at::Tensor& source,
                           const LanguageModel& language_model, TextGeneration generation) {
  require(generation.amateurs.empty(), at("amateur"), "means nothing to a model that translates");
  const auto boundary = boundary_token(*language_model.tokenizer);
  auto& options = generation.options;
  if (!options.eos_token) options.eos_token = boundary;
  if (const auto longest = translator.longest_target(); longest > 0)
    options.seq_len = std::min(options.seq_len, longest - 1);
  const auto session =
      translator.start_session(source, {options.seq_len, generation.static_caches, options.seed});
  GenerateInputs inputs;
  inputs.prompts = at::full({1, 1}, boundary, source.options());
  inputs.pad_value = translator.pad_value();
  TextStream stream(language_model.tokenizer, generation);
  write_tokens(*session, inputs, language_model, generation, stream);
  return stream.finish();
}

}  // namespace

std::vector<int64_t> prompt_tokens(const LanguageModel& language_model, const std::string& prompt) {
  if (prompt.empty() && language_model.model->sequence_writer()) return {};
  require(!prompt.empty() || !language_model.model->translation_writer(),
          "prompt: is needed, as the model translates it");
  const auto tokens = language_model.tokenizer->encode(prompt.empty() ? kEmptyPrompt : prompt);
  const auto longest = language_model.longest_prompt();
  require(!tokens.empty(), "prompt: has no tokens");
  require(longest == 0 || static_cast<int64_t>(tokens.size()) <= longest,
          fmt::format("prompt: {} tokens are more than max_seq_len = {}", tokens.size(), longest));
  const auto readable = language_model.readable_tokens();
  for (size_t i = 0; i < tokens.size() && readable; ++i) {
    require(tokens[i] >= 0 && tokens[i] < readable->count,
            fmt::format("prompt: token {} at position {} is out of range for {} = {}", tokens[i], i,
                        readable->option, readable->count));
  }
  return tokens;
}

std::string write_text(LanguageModel& language_model, const TextGeneration& generation) {
  const auto tokens = prompt_tokens(language_model, generation.prompt);
  const auto prompt = at::tensor(tokens, at::kLong).unsqueeze(0).to(device_of(language_model));
  const Evaluation evaluation(language_model.model->module());
  if (auto* whole = language_model.model->sequence_writer()) {
    TextStream stream(language_model.tokenizer, generation);
    fill_text(*whole, prompt, language_model, generation, stream);
    return stream.finish();
  }
  if (auto* translator = language_model.model->translation_writer())
    return translate_text(*translator, prompt, language_model, generation);
  const SessionRequest request = {generation.options.seq_len, generation.static_caches,
                                  generation.options.seed};
  const auto session = language_model.writer().start_session(request);
  GenerateInputs inputs;
  inputs.prompts = prompt;
  inputs.pad_value = language_model.writer().pad_value();
  std::vector<std::unique_ptr<DecodingSession>> amateurs;
  for (const auto& amateur : generation.amateurs) {
    amateurs.push_back(amateur->writer()->start_session(request));
    inputs.amateurs.push_back(
        {amateurs.back().get(), generation.contrastive.beta, generation.contrastive.alpha});
  }
  TextStream stream(language_model.tokenizer, generation);
  write_tokens(*session, inputs, language_model, generation, stream);
  return stream.finish();
}

}  // namespace x_transformers
