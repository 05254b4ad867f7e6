// Every optimizer against twenty steps of torch.optim's (make_golden.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/optim/make_optimizer.h"

namespace x_transformers::optimizer_golden {
namespace {

const std::vector<std::pair<std::string, std::vector<int64_t>>> kShapes{
    {"tall", {7, 4}}, {"wide", {3, 8}}, {"square", {5, 5}}, {"vector", {6}}, {"cube", {2, 3, 4}}};
constexpr int64_t kSteps = 20;

uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352dU;
  x = (x ^ (x >> 15)) * 0x846ca68bU;
  return x ^ (x >> 16);
}

/// The numbers of make_golden.py.
at::Tensor numbers(size_t tensor, int64_t step) {
  const auto& shape = kShapes[tensor].second;
  at::Tensor values = at::empty(shape, at::kDouble);
  auto* value = values.mutable_data_ptr<double>();
  const auto seed = mixed(static_cast<uint32_t>(1000 * step) + static_cast<uint32_t>(tensor) + 1);
  for (int64_t i = 0; i < values.numel(); ++i)
    value[i] = static_cast<double>(mixed(seed + static_cast<uint32_t>(i))) / 2147483648.0 - 1.0;
  return values.to(at::kFloat);
}

NamedTensors make_weights() {
  NamedTensors weights;
  for (size_t i = 0; i < kShapes.size(); ++i) {
    weights.names.push_back(kShapes[i].first);
    weights.tensors.push_back(numbers(i, 0).requires_grad_(true));
  }
  return weights;
}

std::vector<at::Tensor> make_gradients(int64_t step) {
  std::vector<at::Tensor> gradients;
  for (size_t i = 0; i < kShapes.size(); ++i)
    gradients.push_back(numbers(i, step) * (step % 3 != 0 ? 0.1 : 2.0));
  return gradients;
}

/// Compares the weights after a step; returns the largest difference.
double largest_difference(const NamedTensors& weights, const Json& expected) {
  double largest = 0;
  for (size_t i = 0; i < weights.names.size(); ++i) {
    const auto values = expected.at(weights.names[i]).get<std::vector<double>>();
    const auto wanted = at::tensor(values, at::kDouble).view(kShapes[i].second);
    const auto difference = (weights.tensors[i].detach().to(at::kDouble) - wanted).abs().max();
    largest = std::max(largest, difference.item<double>());
  }
  return largest;
}

TEST(OptimizerGolden, TwentyStepsAreThoseOfPython) {
  const auto golden = read_json_file(std::string(XT_TEST_DATA) + "/optim.json");
  ASSERT_EQ(golden.size(), 8U);
  for (const auto& [name, entry] : golden.items()) {
    const auto options = options_from_json<OptimizerOptions>(entry.at("options"), name);
    const auto weights = make_weights();
    const auto& all = weights.tensors;
    const auto optimizer = make_optimizer(options, weights, {}, {all[0], all[1], all[2]});
    // Newton-Schulz steps are in bfloat16, whose products another machine may round otherwise.
    const double tolerance = options.optimizer == "muon" ? 1e-3 : 2e-6;
    for (int64_t step = 1; step <= kSteps; ++step) {
      optimizer->set_learning_rate(options.learning_rate * static_cast<double>(step) / kSteps);
      optimizer->step(make_gradients(step));
      const auto expected = entry.at("weights").find(std::to_string(step));
      if (expected == entry.at("weights").end()) continue;
      EXPECT_LT(largest_difference(weights, *expected), tolerance) << name << " step " << step;
    }
  }
}

}  // namespace
}  // namespace x_transformers::optimizer_golden
