#include "x_transformers/generation/penalties.h"

#include <ATen/ATen.h>

#include <charconv>
#include <limits>
#include <utility>

#include "x_transformers/core/error.h"

namespace x_transformers {

RepetitionPenalty::RepetitionPenalty(double penalty, at::Tensor prompts, at::Tensor prompt_lens)
    : penalty_(penalty), prompts_(std::move(prompts)), prompt_lens_(std::move(prompt_lens)) {
  expect(penalty > 0, at("repetition_penalty"), penalty, "above 0");
}

void RepetitionPenalty::count_prompts(const at::Tensor& logits) {
  const int64_t length = prompts_.size(1), vocab = logits.size(1);
  // Tokens that cannot be generated (a smaller output vocabulary) and padding do not count.
  auto counts = (prompts_ >= 0) & (prompts_ < vocab);
  if (prompt_lens_.defined()) {
    const auto first = length - prompt_lens_.to(prompts_.device());
    counts = counts & (at::arange(length, prompts_.options()).unsqueeze(0) >= first.unsqueeze(1));
  }
  seen_ = at::zeros(logits.sizes(), logits.options().dtype(at::kInt))
              .scatter_add_(1, prompts_.clamp(0, vocab - 1), counts.to(at::kInt))
              .gt(0);
}

at::Tensor RepetitionPenalty::apply(const at::Tensor& logits) {
  if (!seen_.defined()) count_prompts(logits);
  const auto penalised = at::where(logits > 0, logits / penalty_, logits * penalty_);
  return at::where(seen_, penalised, logits);
}

void RepetitionPenalty::add(const at::Tensor& tokens) {
  seen_.scatter_(1, tokens.unsqueeze(1), true);
}

at::Tensor logit_bias_tensor(const std::map<std::string, double>& logit_bias, int64_t vocab) {
  auto bias = at::zeros({vocab}, at::kFloat);
  auto* values = bias.mutable_data_ptr<float>();
  for (const auto& [key, value] : logit_bias) {
    int64_t token = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    const bool is_token =
        error == std::errc() && end == key.data() + key.size() && token >= 0 && token < vocab;
    expect(is_token, at("logit_bias"), key, "tokens 0 to {}", vocab - 1);
    expect(value < std::numeric_limits<double>::infinity(), at(OptionPath("logit_bias") / key),
           value, "a number or -inf");
    values[token] = static_cast<float>(value);
  }
  return bias;
}

}  // namespace x_transformers
