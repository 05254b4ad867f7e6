#include "x_transformers/generation/generate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/generation/penalties.h"
#include "x_transformers/generation/sampling.h"

namespace x_transformers {
namespace {

bool names_own_filter(const GenerateOptions& options) {
  return options.top_k || options.top_p || options.top_a || options.min_p;
}

/// The filter of an option of its own, whose value is this argument of it.
LogitsFilter own_filter(const char* name, const char* argument, double value) {
  const auto as_option = [&](const OptionPath&) { return OptionPath(name); };
  return spelled(spelled_by(as_option), [&] { return logits_filter(name, {{argument, value}}); });
}

std::vector<LogitsFilter> own_filters(const GenerateOptions& options) {
  std::vector<LogitsFilter> chain;
  if (options.top_k) chain.push_back(own_filter("top_k", "k", static_cast<double>(*options.top_k)));
  if (options.top_p) chain.push_back(own_filter("top_p", "thres", *options.top_p));
  if (options.top_a) chain.push_back(own_filter("top_a", "min_p_ratio", *options.top_a));
  if (options.min_p) chain.push_back(own_filter("min_p", "min_p", *options.min_p));
  return chain;
}

/// The tokens of a step out of the expert's logits.
class NextTokens {
 public:
  NextTokens(const GenerateInputs& inputs, const at::Tensor& prompts,
             const GenerateOptions& options)
      : options_(options),
        amateurs_(inputs.amateurs),
        generator_(seeded_generator(options.seed, prompts.device())) {
    for (const auto& amateur : amateurs_) validate(amateur.options);
    if (amateurs_.empty())
      filter_ = inputs.custom_filter ? inputs.custom_filter : logits_filter(options);
    if (options.repetition_penalty != 1) {
      penalty_.emplace(options.repetition_penalty, prompts, inputs.prompt_lens);
    }
    takes_highest_ =
        options.temperature == 0 && !penalty_ && amateurs_.empty() && options.logit_bias.empty();
    // Sessions of amateurs, and a caller's function, may do anything.
    is_of_device_ = amateurs_.empty() && !inputs.custom_filter;
    const auto choose_of = [this](const at::Tensor& logits) { return choose(logits, {}); };
    choice_ = std::make_shared<TokenChoice>(TokenChoice{choose_of, generator_});
  }
  NextTokens(const NextTokens&) = delete;
  NextTokens& operator=(const NextTokens&) = delete;

  /// The tokens [batch] that follow `tokens` [batch, new].
  at::Tensor after(DecodingSession& session, const at::Tensor& tokens) {
    if (!is_of_device_) return choose(session.append(tokens), tokens);
    return session.append_and_choose(tokens, choice_);
  }

 private:
  /// `tokens` [batch, new] were appended to get the logits [batch, vocab]; returns [batch].
  at::Tensor choose(at::Tensor logits, const at::Tensor& tokens) {
    // The highest of 16 bits is the highest of the same numbers in 32.
    if (!takes_highest_) logits = logits.to(at::kFloat);
    for (const auto& amateur : amateurs_) {
      logits = contrastive_decode_fn(logits, amateur.session->append(tokens), amateur.options);
    }
    if (penalty_) logits = penalty_->apply(logits);
    if (!options_.logit_bias.empty()) logits = logits + bias_for(logits);
    if (options_.temperature > 0 && filter_) logits = filter_(logits);
    auto chosen = sample_tokens(logits, options_.temperature, generator_);
    if (penalty_) penalty_->add(chosen);
    return chosen;
  }

  const at::Tensor& bias_for(const at::Tensor& logits) {
    if (!bias_.defined()) {
      bias_ = logit_bias_tensor(options_.logit_bias, logits.size(-1)).to(logits.device());
    }
    return bias_;
  }

  const GenerateOptions& options_;
  const std::vector<Amateur>& amateurs_;
  std::optional<at::Generator> generator_;
  LogitsFilter filter_;
  std::optional<RepetitionPenalty> penalty_;
  at::Tensor bias_;
  bool takes_highest_ = false, is_of_device_ = false;
  std::shared_ptr<const TokenChoice> choice_;
};

/// Knows which texts are over; the only part that reads from the device.
class EndOfRows {
 public:
  EndOfRows(const GenerateInputs& inputs, std::optional<int64_t> eos_token, int64_t batch)
      : callback_(inputs.callback),
        pad_value_(inputs.pad_value),
        eos_token_(eos_token),
        over_(batch, false) {}

  /// Whether to stop after these tokens [batch].
  bool reached(const at::Tensor& tokens, int64_t step) {
    if (!eos_token_ && !callback_) return false;
    auto host = at::empty(tokens.sizes(), at::kLong).copy_(tokens);
    auto* values = host.mutable_data_ptr<int64_t>();
    for (size_t row = 0; row < over_.size(); ++row) {
      if (over_[row]) {
        values[row] = pad_value_;
      } else {
        over_[row] = eos_token_ && values[row] == *eos_token_;
      }
    }
    const bool asked = callback_ && callback_(host, step);
    return asked || std::find(over_.begin(), over_.end(), false) == over_.end();
  }

 private:
  const TokenCallback& callback_;
  int64_t pad_value_;
  std::optional<int64_t> eos_token_;
  std::vector<bool> over_;
};

at::Tensor pad_after_eos(const at::Tensor& tokens, int64_t eos_token, int64_t pad_value) {
  const auto is_eos = tokens == eos_token;
  const auto eos_before = is_eos.cumsum(1) - is_eos.to(at::kLong);
  return tokens.masked_fill(eos_before > 0, pad_value);
}

}  // namespace

void validate(const GenerateOptions& options) {
  expect(options.seq_len >= 0, at("seq_len"), options.seq_len, "at least 0");
  require_at_most(options.seq_len, kMaxSize, "seq_len");
  expect(options.temperature >= 0 && std::isfinite(options.temperature), at("temperature"),
         options.temperature, "at least 0");
  expect(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty),
         at("repetition_penalty"), options.repetition_penalty, "above 0");
  const double share = options.top_p.value_or(0);
  expect(share >= 0 && share <= 1, at("top_p"), share, "0 to 1");
  const bool named = options.filter_logits_fn || !options.filter_kwargs.empty();
  require(!(named && names_own_filter(options)), among({"filter_logits_fn", "filter_kwargs"}),
          "expected none beside {}, {}, {} and {}, which name filters themselves", option("top_k"),
          option("top_p"), option("top_a"), option("min_p"));
  logits_filter(options);
}

LogitsFilter logits_filter(const GenerateOptions& options) {
  if (!names_own_filter(options)) {
    return logits_filter(options.filter_logits_fn.value_or("top_k"), options.filter_kwargs);
  }
  return [chain = own_filters(options)](at::Tensor logits) {
    for (const auto& filter : chain) logits = filter(logits);
    return logits;
  };
}

at::Tensor generate(DecodingSession& session, const GenerateInputs& inputs,
                    const GenerateOptions& options) {
  validate(options);
  const at::NoGradGuard no_grad;
  require(inputs.prompts.dim() >= 1 && inputs.prompts.numel() > 0, at("prompts"),
          "expected at least one token, got none");
  const auto prompts = inputs.prompts.reshape({-1, inputs.prompts.size(-1)}).to(at::kLong);
  const int64_t batch = prompts.size(0);

  NextTokens next_tokens(inputs, prompts, options);
  EndOfRows end(inputs, options.eos_token, batch);
  std::vector<at::Tensor> all;
  auto tokens = prompts;
  bool over = false;
  while (static_cast<int64_t>(all.size()) < options.seq_len && !over) {
    all.push_back(next_tokens.after(session, tokens));
    tokens = all.back().unsqueeze(1);
    over = end.reached(all.back(), static_cast<int64_t>(all.size()) - 1);
  }

  const auto steps = static_cast<int64_t>(all.size());
  auto out = all.empty() ? at::empty({batch, 0}, prompts.options()) : at::stack(all, 1);
  if (options.eos_token) out = pad_after_eos(out, *options.eos_token, inputs.pad_value);
  auto shape = inputs.prompts.sizes().vec();
  shape.back() = steps;
  return out.reshape(shape);
}

}  // namespace x_transformers
