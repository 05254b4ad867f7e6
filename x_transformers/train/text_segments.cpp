#include "x_transformers/train/text_segments.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/rules.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/wrappers/entropy_based_tokenizer.h"

namespace x_transformers {
namespace {

/// Entropies [1, n] of symbols [n], in windows of `longest` (0: one) that overlap by half.
at::Tensor entropies_of(EntropyBasedTokenizer& tokenizer, const at::Tensor& symbols,
                        int64_t longest) {
  const auto n = symbols.size(0);
  if (longest == 0 || n <= longest) return tokenizer->entropies(symbols.unsqueeze(0));
  std::vector<at::Tensor> parts;
  for (int64_t done = 0; done < n;) {
    const auto begin = std::clamp<int64_t>(done - longest / 2, 0, n - longest);
    const auto window = tokenizer->entropies(symbols.narrow(0, begin, longest).unsqueeze(0));
    parts.push_back(window.narrow(1, done - begin, longest - (done - begin)));
    done = begin + longest;
  }
  return at::cat(parts, 1);
}

}  // namespace

std::vector<std::string> segment_text(const LanguageModel& language_model, std::string_view text,
                                      const EntropyBasedTokenizerOptions& options) {
  const auto net = language_model.model->token_model();
  require(net != nullptr && language_model.model->writer() != nullptr,
          "the model gives no token a probability from those before it alone; expected one that "
          "predicts next tokens, such as an AutoregressiveWrapper");
  require(language_model.tokenizer != nullptr, at("text"),
          "is text, and the model was trained on tokens without {}",
          option(OptionPath("data") / "tokenizer"));
  EntropyBasedTokenizer tokenizer(net, options);
  const auto& vocabulary = *language_model.tokenizer;
  const auto tokens = vocabulary.encode(text);
  require(!tokens.empty(), at("text"), "is empty");
  const auto device = net->parameters().at(0).device();
  const auto symbols = at::tensor(tokens).to(device);
  require_in_range(symbols, "text", token_range(*net));

  const auto entropies = entropies_of(tokenizer, symbols, net->traits().max_seq_len);
  const auto ends = token_boundaries(entropies, {}, options).cpu().contiguous();
  const auto* is_end = ends.const_data_ptr<bool>();
  std::vector<std::string> segments(1);
  TokenBytes bytes(vocabulary);
  for (size_t i = 0; i < tokens.size(); ++i) {
    segments.back() += bytes.push(tokens[i]);
    if (is_end[i] && i + 1 < tokens.size()) segments.emplace_back();
  }
  return segments;
}

}  // namespace x_transformers
