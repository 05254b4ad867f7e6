#include "x_transformers/models/synthetic_data.h"

#include <ATen/ATen.h>

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/generation/sampling.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/nn/callable_types.h"

namespace x_transformers {
namespace {

void check(const SyntheticDataGeneratorOptions& o) {
  require_size(o.dim, "dim");
  require_size(o.num_tokens, "num_tokens");
  require_size(o.max_seq_len, "max_seq_len");
  require_size(o.hidden_size, "hidden_size");
  require(!(o.use_gru && o.network_klass), among({"use_gru", "network_klass"}),
          "at most one of them");
}

CallableModule make_network(const SyntheticDataGeneratorOptions& o, int64_t hidden) {
  const auto named = o.network_klass.value_or(ModuleSpec{o.use_gru ? "GRU" : "LSTM"});
  return within("network_klass", [&] {
    return make_callable(with_recurrent_sizes(named, o.dim, hidden), o.compat);
  });
}

}  // namespace

SyntheticDataGeneratorImpl::SyntheticDataGeneratorImpl(SyntheticDataGeneratorOptions options)
    : options_(std::move(options)) {
  const auto& o = options_;
  check(o);
  const auto hidden = o.hidden_size.value_or(o.dim);
  embed_ = register_module("embed", torch::nn::Embedding(o.num_tokens, o.dim));
  network_ = make_network(o, hidden);
  register_module("net", network_.module);
  to_logits_ = register_module("to_logits", linear_no_bias(hidden, o.num_tokens));
  // The paper varies how strongly a network reacts.
  constexpr double kMaxGain = 1.1;
  const at::NoGradGuard no_grad;
  to_logits_->weight.mul_(at::rand({}).item<double>() * kMaxGain);
}

/// The network's output as `logits`, which the head makes logits of.
SyntheticDataGeneratorImpl::Output SyntheticDataGeneratorImpl::run(
    const at::Tensor& embedded, const std::vector<at::Tensor>& hiddens) {
  const auto count = static_cast<size_t>(network_.state_tensors);
  expect(hiddens.empty() || hiddens.size() == count, at("hiddens"), hiddens.size(), "{}, the state",
         how_many(network_.state_tensors, "tensor"));
  CallableModule::NamedTensors arguments;
  if (!hiddens.empty()) arguments["hx"] = hiddens[0];
  if (hiddens.size() > 1) arguments["cx"] = hiddens[1];
  const auto result = within("network_klass", [&] { return network_.call(embedded, arguments); });
  Output output{result.out, {}};
  for (const auto& part : {result.hidden, result.cell})
    if (part.defined()) output.hiddens.push_back(part);
  return output;
}

SyntheticDataGeneratorImpl::Output SyntheticDataGeneratorImpl::forward(
    const at::Tensor& input, const std::vector<at::Tensor>& hiddens) {
  require_tensor(input, "input", TensorKind::integer, {{"batch"}, {"seq"}});
  auto output = run(embed_->forward(as_ids(input, "input")), hiddens);
  output.logits = to_logits_->forward(output.logits);
  return output;
}

at::Tensor SyntheticDataGeneratorImpl::generate(int64_t length, const at::Tensor& seed,
                                                const at::Tensor& condition, double temperature) {
  require(seed.defined() || condition.defined(), among({"seed", "condition"}),
          "at least one of them is needed");
  expect(length >= 0, at("length"), length, "at least 0");
  require_positive(temperature, "temperature");
  const Evaluation evaluation(*this);
  std::vector<at::Tensor> parts;
  for (const auto& part : {seed, condition})
    if (part.defined()) parts.push_back(part);
  auto input = at::cat(parts, -1);
  require(input.dim() == 2 && input.size(1) > 0, among({"seed", "condition"}),
          "expected tokens [batch, seq], at least one in a sequence");
  parts = {input};
  std::vector<at::Tensor> hiddens;
  for (int64_t i = 0; i < length; ++i) {
    const auto output = forward(input, hiddens);
    require(!output.hiddens.empty() || i + 1 == length, at("network_klass"),
            "generation needs a module that returns its state");
    hiddens = output.hiddens;
    input =
        sample_tokens(output.logits.select(1, output.logits.size(1) - 1), temperature).unsqueeze(1);
    parts.push_back(input);
  }
  const auto all = at::cat(parts, 1);
  const auto kept = std::min(options_.max_seq_len, all.size(1));
  return all.narrow(1, all.size(1) - kept, kept);
}

void SyntheticDataGeneratorImpl::reset() {
  const at::NoGradGuard no_grad;
  const SyntheticDataGenerator fresh(options_);
  const auto drawn = fresh->named_parameters();
  for (const auto& own : named_parameters()) at::Tensor(own.value()).copy_(drawn[own.key()]);
}

std::shared_ptr<torch::nn::Module> SyntheticDataGeneratorImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device,
                [&] { return std::make_shared<SyntheticDataGeneratorImpl>(options_); });
}

}  // namespace x_transformers
