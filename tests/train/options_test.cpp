// A training step of every option that `make bench` measures (benchmarks/options.json): on the CPU,
// and, where there is one, on a CUDA device as a graph.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "train/option_list.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/graph.h"
#include "x_transformers/core/recompute.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/optim/adamw.h"
#include "x_transformers/train/graph_step.h"

namespace x_transformers {
namespace {

/// A model with its inputs on a device, ready to be trained.
class Training {
 public:
  Training(const option_list::Entry& entry, const at::Device& device, at::ScalarType dtype)
      : entry_(entry), device_(device), inputs_(entry.inputs) {
    at::manual_seed(0);
    model_ = build_model(entry.config, entry.name);
    model_->module().to(device);
    model_->module().train();
    for (auto& [name, tensor] : inputs_)
      tensor = tensor.is_floating_point() ? tensor.to(device, dtype) : tensor.to(device);
    const auto parameters = trainable_parameters(model_->module());
    std::vector<at::Tensor> masters;
    if (dtype != at::kFloat) masters = cast_parameters(model_->module(), parameters, dtype);
    optimizer_ = std::make_unique<AdamW>(parameters, AdamWOptions{}, masters);
    step_ = std::make_unique<TrainStep>(
        [this](const Batch&) {
          return run_objective(*model_, inputs_, entry_.kwargs, ArgumentSource::checked);
        },
        *optimizer_, nullptr, 0.0);
  }

  std::string graph_unsupported() { return graph_step_unsupported(*model_, device_).line(); }
  void run_eagerly() { expect_finite((*step_)({Batch{}})); }
  void run_captured() {
    GraphStep captured(*step_, device_);
    for (int64_t i = 0; i < GraphStep::kEagerSteps + 3; ++i) expect_finite(captured({Batch{}}));
  }

 private:
  void expect_finite(const StepResult& result) {
    EXPECT_TRUE(std::isfinite(result.loss.item<double>())) << entry_.name;
    EXPECT_EQ(result.skipped.item<float>(), 0.0F) << entry_.name;
  }

  const option_list::Entry& entry_;
  at::Device device_;
  TensorMap inputs_;
  std::shared_ptr<Model> model_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<TrainStep> step_;
};

template <class Run>
void each_entry(Run run) {
  for (const auto& entry : option_list::read()) {
    try {
      run(entry);
    } catch (const std::exception& error) {
      ADD_FAILURE() << entry.name << ": " << error.what();
    }
  }
}

TEST(EveryOption, IsTrainedOnTheCpu) {
  each_entry([](const auto& entry) { Training(entry, at::kCPU, at::kFloat).run_eagerly(); });
}

/// The model's stacks drop activations too.
Json with_dropout(Json config) {
  if (config.is_object() && config.contains("attn_layers"))
    config["attn_layers"].merge_patch({{"attn_dropout", 0.1}, {"ff_dropout", 0.1}});
  if (config.is_structured()) {
    for (auto& part : config) part = with_dropout(part);
  }
  return config;
}

/// Loss and gradients of a step whose activations are made again, `blocks` blocks at a time.
TensorMap gradients_of(const option_list::Entry& entry, const Json& config, at::ScalarType dtype,
                       int64_t blocks) {
  at::manual_seed(0);
  const auto model = build_model(config, entry.name);
  auto& module = model->module();
  module.train();
  set_recomputed_blocks(module, blocks);
  for (auto& parameter : module.parameters()) parameter.set_data(parameter.to(dtype));
  auto inputs = entry.inputs;
  for (auto& [name, tensor] : inputs)
    if (tensor.is_floating_point()) tensor = tensor.to(dtype);
  at::manual_seed(1);
  TensorMap gradients;
  const auto loss = run_objective(*model, inputs, entry.kwargs, ArgumentSource::checked);
  loss.backward();
  gradients["loss"] = loss.detach();
  for (const auto& parameter : module.named_parameters())
    gradients[parameter.key()] = parameter.value().grad();
  return gradients;
}

void expect_same(const TensorMap& expected, const TensorMap& given, const std::string& name) {
  for (const auto& [tensor_name, tensor] : expected) {
    const auto& other = given.at(tensor_name);
    const bool is_same =
        tensor.defined() ? other.defined() && at::equal(tensor, other) : !other.defined();
    EXPECT_TRUE(is_same) << name << ": " << tensor_name;
  }
}

TEST(EveryOption, HasTheSameGradientsWhereActivationsAreMadeAgain) {
  each_entry([](const auto& entry) {
    for (const auto& config : {entry.config, with_dropout(entry.config)}) {
      expect_same(gradients_of(entry, config, at::kFloat, 0),
                  gradients_of(entry, config, at::kFloat, 1), entry.name);
    }
    expect_same(gradients_of(entry, entry.config, at::kBFloat16, 0),
                gradients_of(entry, entry.config, at::kBFloat16, 3), entry.name + " in bf16");
  });
}

/// Loss and gradients of `x` [b, n] in eval mode, where nothing is drawn by chance.
TensorMap evaluated(Model& model, const TensorMap& batch, double weight) {
  for (auto& parameter : model.module().parameters()) parameter.mutable_grad() = at::Tensor();
  const auto loss = model.loss(batch) * weight;
  loss.backward();
  TensorMap gradients = {{"loss", loss.detach()}};
  for (const auto& parameter : model.module().named_parameters())
    if (parameter.value().grad().defined())
      gradients[parameter.key()] = parameter.value().grad().clone();
  return gradients;
}

/// Documents of 5, 1, 12 and 15 tokens in one row, of 20 and 9 with 4 of padding in the other.
const at::Tensor& packed_documents() {
  static const auto numbers = [] {
    const auto row = [](std::vector<std::pair<int64_t, int64_t>> runs) {
      std::vector<at::Tensor> parts;
      for (const auto& [number, count] : runs)
        parts.push_back(at::full({count}, number, at::kLong));
      return at::cat(parts);
    };
    return at::stack({row({{0, 5}, {1, 1}, {2, 12}, {3, 15}}), row({{0, 20}, {1, 9}, {-1, 4}})});
  }();
  return numbers;
}

/// The options of models that learn next tokens, but whose documents see each other in a row.
const std::set<std::string> kOptionsOfWholeRows = {"add_attn_z_loss",
                                                   "attn_hybrid_learned_mix",
                                                   "attn_hybrid_module",
                                                   "attn_orthog_projected_values",
                                                   "attn_orthog_projected_values_per_head",
                                                   "mask_prob",
                                                   "memory_tokens_interspersed_every",
                                                   "num_memory_tokens",
                                                   "residual_attn"};
/// Those that draw by chance in eval mode too, leave out targets of some tokens, or need to be told
/// how often outside training.
const std::set<std::string> kOptionsWithoutTheSameLoss = {
    "attn_gumbel_softmax", "attn_gumbel_softmax_soft", "ignore_index", "recycling",
    "train_max_recycle_steps"};

TEST(EveryOption, TrainsPackedDocumentsAsEachAlone) {
  const auto& numbers = packed_documents();
  std::set<std::string> refused;
  each_entry([&](const auto& entry) {
    const bool is_of_tokens = entry.inputs.size() == 1 && entry.inputs.contains("x");
    if (entry.config["type"] != "AutoregressiveWrapper" || !is_of_tokens) return;
    at::manual_seed(0);
    const auto model = build_model(entry.config, entry.name);
    if (!model->documents_unsupported().empty()) {
      refused.insert(entry.name);
      return;
    }
    if (kOptionsWithoutTheSameLoss.contains(entry.name)) return;
    model->module().eval();
    const auto tokens = at::randint(61, numbers.sizes(), at::kLong);
    TensorMap sums;
    double targets = 0;
    for (const int64_t row : {0, 1}) {
      for (int64_t first = 0, last = 0; first < numbers.size(1); first = last) {
        for (last = first; last < numbers.size(1) && numbers[row][last].equal(numbers[row][first]);)
          ++last;
        if (last - first < 2 || numbers[row][first].template item<int64_t>() < 0) continue;
        const auto weight = static_cast<double>(last - first - 1);
        targets += weight;
        const auto own = tokens.narrow(0, row, 1).narrow(1, first, last - first);
        for (const auto& [name, gradient] : evaluated(*model, {{"x", own}}, weight))
          sums[name] = sums.contains(name) ? sums[name] + gradient : gradient;
      }
    }
    const auto packed = evaluated(*model, {{"x", tokens}, {"documents", numbers}}, 1);
    for (const auto& [name, sum] : sums) {
      const auto mean = sum / targets;
      ASSERT_TRUE(packed.contains(name)) << entry.name << ": " << name;
      // Gradients of embeddings that are made as long as 1 are as large as these were short.
      const auto largest = mean.abs().max().template item<double>();
      EXPECT_LT((packed.at(name) - mean).abs().max().template item<double>(), 1e-5 + 1e-4 * largest)
          << entry.name << ": " << name;
    }
  });
  EXPECT_EQ(refused, kOptionsOfWholeRows);
}

/// The options whose algorithm has the host decide anew in each step.
const std::set<std::string> kOptionsOfTheHost = {"layer_dropout", "recycling",
                                                 "train_max_recycle_steps"};

void expect_captured(at::ScalarType dtype) {
  const at::Device device(at::kCUDA, 0);
  each_entry([&](const auto& entry) {
    Training training(entry, device, dtype);
    const auto refusal = training.graph_unsupported();
    EXPECT_EQ(refusal.empty(), kOptionsOfTheHost.count(entry.name) == 0)
        << entry.name << ": " << refusal;
    refusal.empty() ? training.run_captured() : training.run_eagerly();
  });
}

/// Why there are no graphs here; empty: there are.
std::string missing() {
  const auto reason = cuda_unsupported().line();
  return reason.empty() ? graph_unsupported().line() : reason;
}

TEST(EveryOptionOnCuda, IsCaptured) {
  if (const auto reason = missing(); !reason.empty()) GTEST_SKIP() << reason;
  expect_captured(at::kFloat);
}

TEST(EveryOptionOnCuda, IsCapturedInBfloat16) {
  if (const auto reason = missing(); !reason.empty()) GTEST_SKIP() << reason;
  expect_captured(at::kBFloat16);
}

}  // namespace
}  // namespace x_transformers
