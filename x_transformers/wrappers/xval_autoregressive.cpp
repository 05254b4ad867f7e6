#include "x_transformers/wrappers/xval_autoregressive.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>
#include <utility>
#include <vector>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/generation/filters.h"
#include "x_transformers/generation/sampling.h"
#include "x_transformers/models/embedded_session.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/wrappers/seen_targets.h"

namespace x_transformers {
namespace {

/// The sum of values [b, n] where a mask of the same shape lets them count.
at::Tensor sum_under(const at::Tensor& values, const at::Tensor& counts) {
  return at::where(counts, values, at::zeros({}, values.options())).sum();
}

/// The last `count` entries along dimension 1.
at::Tensor last(const at::Tensor& t, int64_t count) {
  return t.narrow(1, t.size(1) - count, count);
}

}  // namespace

XValAutoregressiveWrapperImpl::XValAutoregressiveWrapperImpl(
    std::shared_ptr<XValNet> net, XValAutoregressiveWrapperOptions options)
    : options_(options), net_(std::move(net)) {
  require(net_ != nullptr, at("net"), "is needed");
  register_module("net", net_);
  const auto tokens = net_->num_tokens();
  expect(options_.pad_value >= 0 && options_.pad_value < tokens, at("pad_value"),
         options_.pad_value, "a token below {} = {}", option(OptionPath("net") / "num_tokens"),
         tokens);
}

XValAutoregressiveWrapperImpl::Output XValAutoregressiveWrapperImpl::forward(XValInputs inputs) {
  const auto x = as_ids(inputs.x, "x"), numbers = inputs.x_num;
  require(x.defined() && x.dim() == 2 && x.size(1) > 1, at("x"),
          "expected tokens [batch, seq] with at least two in a sequence");
  require(!inputs.cache, at("cache"), "the loss of a sequence takes no cache");
  require_tensor(numbers, "x_num", TensorKind::any, {{"batch", x.size(0)}, {"seq", x.size(1)}});
  require(numbers.defined(), at("x_num"), "is needed");
  warn_of_seen_targets(*this, "net", net_->is_causal(), inputs.layers.attn_mask);
  const auto n = x.size(1) - 1;
  const auto target = x.narrow(1, 1, n);
  auto counts = target != options_.ignore_index;
  if (inputs.mask.defined()) {
    require_tensor(inputs.mask, "mask", TensorKind::boolean, {{"batch", x.size(0), true}, {"seq"}});
    const bool is_whole = inputs.mask.size(1) == n + 1;
    expect(is_whole || inputs.mask.size(1) == n, at("mask"), inputs.mask.size(1), "{} or {} tokens",
           n + 1, n);
    counts = counts & last(inputs.mask, n);
    inputs.mask = inputs.mask.narrow(1, 0, n);
  }
  const auto tokens = x.narrow(1, 0, n);
  // As in Python the net sees what is no target, if it is a token.
  const auto ignored = options_.ignore_index;
  const bool reads_ignored = ignored >= 0 && ignored < net_->num_tokens();
  inputs.x = reads_ignored ? tokens : tokens.masked_fill(tokens == ignored, options_.pad_value);
  inputs.x_num = numbers.narrow(1, 0, n);
  const auto predicted = net_->forward(inputs);
  require(predicted.logits.size(0) == x.size(0), at("x"),
          "batch = {}, but what is given beside it has {} batch entries", x.size(0),
          predicted.logits.size(0));

  Output output;
  // Prepended embeddings stand in front and have no target.
  output.cross_entropy_loss =
      cross_entropy(last(predicted.logits, n), target, options_.ignore_index, Reduction::none);
  const auto wanted = numbers.narrow(1, 1, n).to(predicted.numbers.scalar_type());
  const bool spreads = options_.compat.python_quirks;
  auto has_number = counts & (target == net_->numerical_token_id());
  if (!spreads) has_number = has_number & ~wanted.isnan();
  const auto nothing = at::zeros({}, wanted.options());
  const auto error = last(predicted.numbers, n) - at::where(has_number, wanted, nothing);
  output.numerical_mse_loss = at::where(has_number, error.square(), nothing);
  const auto targets = counts.sum();
  const auto errors_are_over = spreads ? targets : has_number.sum().clamp_min(1);
  // Where nothing counts the loss is 0, and Python's NaN.
  output.loss =
      sum_under(output.cross_entropy_loss, counts) / (spreads ? targets : targets.clamp_min(1)) +
      output.numerical_mse_loss.sum() / errors_are_over * options_.numerical_loss_weight;
  return output;
}

XValAutoregressiveWrapperImpl::Generated XValAutoregressiveWrapperImpl::generate(
    XValInputs inputs, const XValGenerateOptions& options) {
  expect(options.seq_len >= 0, at("seq_len"), options.seq_len, "at least 0");
  require_at_most(options.seq_len, kMaxSize, "seq_len");
  expect(options.temperature >= 0, at("temperature"), options.temperature, "at least 0");
  const auto filter = logits_filter(options.filter_logits_fn, options.filter_kwargs);
  auto tokens = inputs.x, numbers = inputs.x_num;
  require(tokens.defined() && tokens.dim() == 2 && !tokens.is_floating_point(), at("start_tokens"),
          "expected tokens [batch, seq] of integers");
  require(numbers.defined() && numbers.sizes() == tokens.sizes(), at("start_numbers"),
          "expected one for each of {}", option("start_tokens"));
  inputs.x = inputs.x_num = at::Tensor();  // the session's
  const auto embedded = net_->num_tokens(), predicted = net_->predicted_tokens().count;
  const Evaluation evaluation(*this);
  const auto generator = seeded_generator(options.seed, tokens.device());
  EmbeddedSession<XValNet> session(net_, std::move(inputs),
                                   {options.cache_kv, options.seq_len, options.static_caches});
  numbers = numbers.to(net_->parameters().at(0).scalar_type());
  std::vector<at::Tensor> ids = {tokens.narrow(1, 0, 0).to(at::kLong)},
                          drawn = {numbers.narrow(1, 0, 0)};
  for (int64_t step = 0; step < options.seq_len; ++step) {
    const auto output = session.append({tokens, numbers});
    require(output.logits.size(0) == tokens.size(0), at("start_tokens"),
            "batch = {}, but what is given beside them has {} batch entries", tokens.size(0),
            output.logits.size(0));
    auto logits = last(output.logits, 1).squeeze(1).to(at::kFloat);
    if (options.temperature > 0) logits = filter(logits);
    tokens = sample_tokens(logits, options.temperature, generator).unsqueeze(1);
    expect(predicted <= embedded || !tokens.is_cpu() || tokens.max().item<int64_t>() < embedded,
           at("num_tokens"), embedded, "embeddings of all tokens that the model writes");
    numbers = last(output.numbers, 1);
    ids.push_back(tokens);
    drawn.push_back(numbers);
  }
  Generated generated;
  generated.sampled_token_ids = at::cat(ids, 1);
  generated.is_number_mask = generated.sampled_token_ids == net_->numerical_token_id();
  generated.sampled_numbers = at::cat(drawn, 1).masked_fill(
      ~generated.is_number_mask, std::numeric_limits<double>::quiet_NaN());
  return generated;
}

std::shared_ptr<torch::nn::Module> XValAutoregressiveWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    return std::make_shared<XValAutoregressiveWrapperImpl>(cloned_as(net_, device), options_);
  });
}

}  // namespace x_transformers
