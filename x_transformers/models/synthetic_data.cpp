#include "x_transformers/models/synthetic_data.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/generation/sampling.h"
#include "x_transformers/models/token_bounds.h"

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

/// What the options name, with the sizes of a recurrence unless it has some of its own.
ModuleSpec network_spec(const ModuleSpec& given, int64_t dim, int64_t hidden) {
  if (given.type != "RNN") return given;
  Json arguments = {{"input_size", dim}, {"hidden_size", hidden}, {"batch_first", true}};
  arguments.update(Json::parse(given.arguments));
  return {given.type, arguments.dump()};
}

}  // namespace

SyntheticDataGeneratorImpl::SyntheticDataGeneratorImpl(SyntheticDataGeneratorOptions options)
    : options_(std::move(options)) {
  const auto& o = options_;
  check(o);
  const auto hidden = o.hidden_size.value_or(o.dim);
  embed_ = register_module("embed", torch::nn::Embedding(o.num_tokens, o.dim));
  build_network(hidden);
  to_logits_ = register_module("to_logits", linear_no_bias(hidden, o.num_tokens));
  // The paper varies how strongly a network reacts.
  constexpr double kLargestGain = 1.1;
  const at::NoGradGuard no_grad;
  to_logits_->weight.mul_(at::rand({}).item<double>() * kLargestGain);
}

void SyntheticDataGeneratorImpl::build_network(int64_t hidden) {
  const auto& o = options_;
  const auto type = o.network_klass ? o.network_klass->type : o.use_gru ? "GRU" : "LSTM";
  require(
      !o.network_klass || (type != "LSTM" && type != "GRU") || o.network_klass->arguments == "{}",
      at("network_klass"), "a {} is made of {} and {} alone, got arguments {}", type, option("dim"),
      option("hidden_size"), o.network_klass ? o.network_klass->arguments : "");
  if (type == "LSTM") {
    lstm_ = register_module(
        "net", torch::nn::LSTM(torch::nn::LSTMOptions(o.dim, hidden).batch_first(true)));
  } else if (type == "GRU") {
    gru_ = register_module("net",
                           torch::nn::GRU(torch::nn::GRUOptions(o.dim, hidden).batch_first(true)));
  } else {
    other_ = within("network_klass", [&] {
      return make_callable(network_spec(*o.network_klass, o.dim, hidden), o.compat);
    });
    register_module("net", other_.module);
  }
}

/// The network's output as `logits`, which the head makes logits of.
SyntheticDataGeneratorImpl::Output SyntheticDataGeneratorImpl::run(
    const at::Tensor& embedded, const std::vector<at::Tensor>& hiddens) {
  const auto expect_tensors = [&](size_t count) {
    expect(hiddens.empty() || hiddens.size() == count, at("hiddens"), hiddens.size(),
           "{} of the state's tensors", count);
  };
  if (lstm_) {
    expect_tensors(2);
    const auto [out, state] = hiddens.empty()
                                  ? lstm_->forward(embedded)
                                  : lstm_->forward(embedded, std::tuple{hiddens[0], hiddens[1]});
    return {out, {std::get<0>(state), std::get<1>(state)}};
  }
  expect_tensors(1);
  if (gru_) {
    const auto [out, state] = gru_->forward(embedded, hiddens.empty() ? at::Tensor() : hiddens[0]);
    return {out, {state}};
  }
  CallableModule::NamedTensors arguments;
  if (!hiddens.empty()) arguments["hx"] = hiddens[0];
  const auto result = within("network_klass", [&] { return other_.call(embedded, arguments); });
  Output output{result.out, {}};
  if (result.hidden.defined()) output.hiddens.push_back(result.hidden);
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
