#include "x_transformers/train/text_generation.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>
#include <memory>

#include "x_transformers/core/error.h"
#include "x_transformers/generation/stop.h"

namespace x_transformers {
namespace {

/// A token that starts a text where there is no prompt.
constexpr const char* kEmptyPrompt = "\n";

at::Device device_of(AutoregressiveWrapper& model) { return model->parameters().at(0).device(); }

/// No token comes that the tokenizer has no text for: a model may have more tokens than its
/// tokenizer, for a round number.
template <class Options>
Options within_vocabulary(Options options, const LanguageModel& language_model) {
  const auto& net = language_model.model->net();
  const auto predicted = net->predicted_tokens();
  const auto logits = predicted ? predicted->count : net->options().num_tokens;
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

/// The best text of a beam search goes to `stream`.
void search_text(LanguageModel& language_model, const GenerationInputs& inputs,
                 const TextGeneration& generation, TextStream& stream) {
  BeamSearchOptions options;
  options.seq_len = generation.options.seq_len;
  options.eos_token = generation.options.eos_token;
  options.beams = *generation.beams;
  options.length_penalty = generation.length_penalty;
  const auto best =
      language_model.model->beam_search(inputs, within_vocabulary(options, language_model))
          .best()
          .reshape(-1)
          .to(at::kCPU);
  for (int64_t i = 0; i < best.numel(); ++i) {
    const auto token = best[i].item<int64_t>();
    if (stream.push(token) || token == options.eos_token) break;
  }
}

}  // namespace

std::vector<int64_t> prompt_tokens(const LanguageModel& language_model, const std::string& prompt) {
  const auto tokens = language_model.tokenizer->encode(prompt.empty() ? kEmptyPrompt : prompt);
  const auto& net = language_model.model->options().net;
  require(!tokens.empty(), "prompt: has no tokens");
  require(net.max_seq_len == 0 || static_cast<int64_t>(tokens.size()) <= net.max_seq_len,
          "prompt: " + std::to_string(tokens.size()) +
              " tokens are more than max_seq_len = " + std::to_string(net.max_seq_len));
  for (size_t i = 0; i < tokens.size(); ++i) {
    require(tokens[i] >= 0 && tokens[i] < net.num_tokens,
            "prompt: token " + std::to_string(tokens[i]) + " at position " + std::to_string(i) +
                " is out of range for num_tokens = " + std::to_string(net.num_tokens));
  }
  return tokens;
}

std::string write_text(LanguageModel& language_model, const TextGeneration& generation) {
  const auto tokens = prompt_tokens(language_model, generation.prompt);
  GenerationInputs inputs;
  inputs.prompts = at::tensor(tokens).unsqueeze(0).to(device_of(language_model.model));
  inputs.fixed_caches = generation.fixed_caches;
  for (auto amateur : generation.amateurs) {
    inputs.amateurs.push_back(
        {amateur->net(), generation.contrastive.beta, generation.contrastive.alpha});
  }
  TextStream stream(language_model.tokenizer, generation);
  inputs.callback = [&](const at::Tensor& step, int64_t) {
    return stream.push(step.item<int64_t>());
  };
  if (generation.beams) {
    search_text(language_model, inputs, generation, stream);
    return stream.finish();
  }
  language_model.model->generate(inputs, within_vocabulary(generation.options, language_model));
  return stream.finish();
}

}  // namespace x_transformers
