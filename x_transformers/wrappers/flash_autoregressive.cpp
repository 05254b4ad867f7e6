#include "x_transformers/wrappers/flash_autoregressive.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/generation/filters.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/models/transformer_session.h"
#include "x_transformers/wrappers/held_net.h"
#include "x_transformers/wrappers/seen_targets.h"

namespace x_transformers {
namespace {

void validate(const FLASHGenerateOptions& o) {
  require_positive(o.seq_len, "seq_len");
  expect(o.temperature >= 0, at("temperature"), o.temperature, "0 or more");
  require_probability(o.filter_thres, "filter_thres");
}

/// Tokens of the vocabulary that are drawn from: one at least, where Python may keep none.
int64_t kept_tokens(double filter_thres, int64_t num_tokens) {
  const auto kept = static_cast<int64_t>((1 - filter_thres) * static_cast<double>(num_tokens));
  return std::max<int64_t>(kept, 1);
}

/// Which tokens [b, n] come after their row's first eos.
at::Tensor after_eos(const at::Tensor& tokens, int64_t eos) {
  const auto is_eos = (tokens == eos).to(at::kLong);
  return is_eos.cumsum(-1) - is_eos > 0;
}

}  // namespace

FLASHAutoregressiveWrapperImpl::FLASHAutoregressiveWrapperImpl(
    std::shared_ptr<TokenModel> net, FLASHAutoregressiveWrapperOptions options)
    : options_(std::move(options)), net_(std::move(net)) {
  hold_net(*this, "net", net_);
}

/// The tokens after the first, kIgnored where they do not count. Python counts padding too.
at::Tensor FLASHAutoregressiveWrapperImpl::targets_of(const at::Tensor& x,
                                                      const at::Tensor& mask) const {
  const auto n = x.size(1) - 1;
  const auto targets = x.narrow(1, 1, n);
  if (options_.compat.python_quirks) return targets;
  auto is_left_out = targets == options_.pad_value;
  if (mask.defined()) {
    // The last target has no entry of its own: it exists where the token before it does.
    const auto exists =
        mask.logical_and(at::cat({mask.narrow(1, 1, n - 1), mask.narrow(1, n - 1, 1)}, 1));
    is_left_out = is_left_out.logical_or(exists.logical_not());
  }
  return targets.masked_fill(is_left_out, kIgnored);
}

at::Tensor FLASHAutoregressiveWrapperImpl::forward(const at::Tensor& given,
                                                   const at::Tensor& mask) {
  const auto x = as_ids(given, "x");
  require_tensor(x, "x", TensorKind::integer, {{"batch"}, {"seq"}});
  require(x.defined() && x.size(1) > 1, at("x"),
          "expected tokens [batch, seq] with at least two in a sequence");
  warn_of_seen_targets(*this, "net", net_->traits().is_causal);
  const auto n = x.size(1) - 1;
  require_tensor(mask, "mask", TensorKind::boolean, {{"batch", x.size(0), true}, {"seq", n}});
  TransformerInputs inputs;
  const auto tokens = x.narrow(1, 0, n);
  // A pad_value that is no token makes every token a target, and has no embedding.
  const auto known = net_->embedded_tokens();
  const auto pad = options_.pad_value;
  const bool is_token = pad >= 0 && (!known || pad < known->count);
  inputs.x = tokens.masked_fill(tokens == kIgnored, is_token ? pad : 0);
  inputs.mask = mask;
  const auto output = net_->forward(inputs);
  expect(output.logits.size() == 1, at("net"), output.logits.size(), "one output head");
  const auto targets = targets_of(x, mask);
  return token_loss(net_->traits(), output.logits[0], targets, kIgnored);
}

at::Tensor FLASHAutoregressiveWrapperImpl::generate(const at::Tensor& start_tokens,
                                                    const FLASHGenerateOptions& options,
                                                    const at::Tensor& mask) {
  validate(options);
  const bool is_row = start_tokens.dim() == 1;
  const auto prompts = (is_row ? start_tokens.unsqueeze(0) : start_tokens).to(at::kLong);
  require_tensor(prompts, "start_tokens", TensorKind::integer, {{"batch"}, {"seq"}});
  require(prompts.size(1) > 0, at("start_tokens"), "expected at least one token");
  require_tensor(mask, "mask", TensorKind::boolean,
                 {{"batch", prompts.size(0), true}, {"seq", prompts.size(1)}});
  const Evaluation evaluation(*this);
  SessionOptions session_options;
  session_options.expected_length = options.seq_len;
  session_options.inputs.mask = mask;
  const auto session = net_->start_session(std::move(session_options));
  const auto filter_thres = options.filter_thres;

  GenerateInputs inputs{prompts, {}, options_.pad_value};
  inputs.custom_filter = [filter_thres](const at::Tensor& logits) {
    return top_k(logits, 1.0, kept_tokens(filter_thres, logits.size(-1)));
  };
  GenerateOptions sampling;
  sampling.seq_len = options.seq_len;
  sampling.temperature = options.temperature;
  sampling.seed = options.seed;
  if (!options.eos_token || !options_.compat.python_quirks) {
    sampling.eos_token = options.eos_token;
    const auto out = x_transformers::generate(*session, inputs, sampling);
    return is_row ? out.squeeze(0) : out;
  }
  // Python goes on in all rows until each has its eos, which may stand in the prompt.
  const auto eos = *options.eos_token;
  auto has_eos = (prompts == eos).any(-1).cpu();
  inputs.callback = [&](const at::Tensor& tokens, int64_t) {
    has_eos = has_eos.logical_or(tokens == eos);
    return has_eos.all().item<bool>();
  };
  auto out = x_transformers::generate(*session, inputs, sampling);
  if (has_eos.all().item<bool>()) {
    const auto ended = after_eos(at::cat({prompts, out}, 1), eos);
    out = out.masked_fill(ended.narrow(1, prompts.size(1), out.size(1)), options_.pad_value);
  }
  return is_row ? out.squeeze(0) : out;
}

std::unique_ptr<DecodingSession> FLASHAutoregressiveWrapperImpl::start_session(
    const SessionRequest& request) {
  return net_->start_session(session_options(request));
}

std::shared_ptr<torch::nn::Module> FLASHAutoregressiveWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    return std::make_shared<FLASHAutoregressiveWrapperImpl>(cloned_as(net_, device), options_);
  });
}

}  // namespace x_transformers
