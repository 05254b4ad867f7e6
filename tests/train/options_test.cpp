// A training step of every option that `make bench` measures (benchmarks/options.json): on the CPU,
// and, where there is one, on a CUDA device as a graph.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <set>
#include <string>

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

  std::string graph_unsupported() { return graph_step_unsupported(*model_, device_); }
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
  const auto reason = cuda_unsupported();
  return reason.empty() ? graph_unsupported() : reason;
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
