// What holds for every optimizer behind the interface.
#include "x_transformers/optim/make_optimizer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <type_traits>
#include <utility>

#include "ops/cuda_device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/optim/adafactor.h"
#include "x_transformers/optim/lion.h"
#include "x_transformers/optim/muon.h"

namespace x_transformers::optimizers_test {
namespace {

NamedTensors make_parameters(const at::Device& device = at::kCPU) {
  at::manual_seed(1);
  NamedTensors parameters{{"matrix", "vector", "cube", "wide"}, {}};
  for (const auto& shape : std::vector<std::vector<int64_t>>{{6, 4}, {11}, {2, 3, 4}, {3, 5}})
    parameters.tensors.push_back(at::randn(shape).to(device).requires_grad_(true));
  return parameters;
}

std::vector<at::Tensor> make_gradients(const NamedTensors& parameters, int64_t step) {
  at::manual_seed(100 + step);
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& tensor : parameters.tensors)
    gradients.push_back(at::randn(tensor.sizes()).to(tensor.device()));
  return gradients;
}

class EveryOptimizer : public testing::TestWithParam<const char*> {
 protected:
  static OptimizerOptions options() {
    OptimizerOptions options;
    options.optimizer = GetParam();
    options.learning_rate = 0.01;
    return options;
  }
  static std::unique_ptr<Optimizer> make(const NamedTensors& parameters,
                                         std::vector<at::Tensor> masters = {}) {
    return make_optimizer(options(), parameters, std::move(masters), parameters.tensors);
  }
};

void expect_equal(const NamedTensors& one, const NamedTensors& other) {
  for (size_t i = 0; i < one.tensors.size(); ++i)
    EXPECT_TRUE(at::equal(one.tensors[i], other.tensors[i])) << one.names[i];
}

TEST_P(EveryOptimizer, MovesWeightsAgainstTheGradient) {
  const auto parameters = make_parameters();
  const auto optimizer = make(parameters);
  const auto loss = [&] {
    double sum = 0;
    for (const auto& tensor : parameters.tensors)
      sum += (tensor - 1.0).square().sum().item<double>();
    return sum;
  };
  const double before = loss();
  for (int64_t step = 0; step < 60; ++step) {
    std::vector<at::Tensor> gradients;
    for (const auto& tensor : parameters.tensors) gradients.push_back(2 * (tensor.detach() - 1.0));
    optimizer->step(gradients);
  }
  EXPECT_LT(loss(), 0.8 * before);
}

TEST_P(EveryOptimizer, GradScaleDivides) {
  const auto scaled = make_parameters(), plain = make_parameters();
  const auto scaling = make(scaled), other = make(plain);
  for (int64_t step = 1; step <= 3; ++step) {
    auto gradients = make_gradients(plain, step);
    other->step(gradients);
    gradients = make_gradients(plain, step);
    for (at::Tensor& gradient : gradients) gradient.mul_(4.0);
    scaling->step(gradients, at::full({}, 4.0));
  }
  expect_equal(scaled, plain);
}

TEST_P(EveryOptimizer, AStepWithFoundInfLeavesNoTrace) {
  const auto skipped = make_parameters(), plain = make_parameters();
  const auto skipping = make(skipped), other = make(plain);
  for (int64_t step = 1; step <= 4; ++step) {
    auto bad = make_gradients(plain, 50 + step);
    bad[0].fill_(std::nan(""));
    skipping->step(bad, {}, at::ones({}));
    skipping->step(make_gradients(plain, step), {}, at::zeros({}));
    other->step(make_gradients(plain, step));
  }
  expect_equal(skipped, plain);
  EXPECT_EQ(skipping->state_dict().at("step.matrix").item<float>(), 4.0F);
}

/// An optimizer that takes the way of CUDA, where the host cannot ask whether a step counts.
template <class Base>
class AsOnDevice : public Base {
 public:
  template <class... Args>
  explicit AsOnDevice(Args&&... args) : Base(std::forward<Args>(args)...) {
    this->device_learning_rate_ = at::full({}, this->learning_rate_);
  }
};

template <class One, class... Args>
void expect_skipped_on_device(const Args&... args) {
  auto skipped = make_parameters(), plain = make_parameters();
  for (auto* parameters : {&skipped, &plain}) {
    // Muon takes matrices only.
    if (std::is_same_v<One, Muon>) parameters->names = {"matrix"}, parameters->tensors.resize(1);
  }
  AsOnDevice<One> skipping(skipped, 0.01, 0.1, args...);
  One other(plain, 0.01, 0.1, args...);
  for (int64_t step = 1; step <= 5; ++step) {
    skipping.set_learning_rate(0.01 * static_cast<double>(step));
    other.set_learning_rate(0.01 * static_cast<double>(step));
    for (const double bad : {NAN, INFINITY}) {
      auto gradients = make_gradients(skipped, 50 + step);
      for (auto& gradient : gradients) gradient.flatten()[0].fill_(bad);
      skipping.step(gradients, at::full({}, 2.0), at::ones({}));
    }
    skipping.step(make_gradients(skipped, step), at::full({}, 2.0), at::zeros({}));
    other.step(make_gradients(plain, step), at::full({}, 2.0));
  }
  for (size_t i = 0; i < plain.tensors.size(); ++i)
    EXPECT_TRUE(at::allclose(skipped.tensors[i], plain.tensors[i], 1e-5, 1e-7)) << plain.names[i];
  for (const auto& [name, tensor] : other.state_dict())
    EXPECT_TRUE(at::allclose(skipping.state_dict().at(name), tensor, 1e-5, 1e-7)) << name;
}

TEST(OptimizersOnDevice, AStepWithFoundInfLeavesNoTrace) {
  expect_skipped_on_device<Lion>(LionOptions());
  expect_skipped_on_device<Muon>(MuonOptions());
  expect_skipped_on_device<Adafactor>(AdafactorOptions());
}

TEST_P(EveryOptimizer, OnlyTensorsWithTwoDimensionsDecay) {
  const auto parameters = make_parameters();
  std::vector<at::Tensor> before, zeros;
  for (const at::Tensor& tensor : parameters.tensors) {
    before.push_back(tensor.detach().clone());
    zeros.push_back(at::zeros_like(tensor));
  }
  auto decaying = options();
  decaying.learning_rate = 0.1;
  decaying.weight_decay = 0.5;
  make_optimizer(decaying, parameters, {}, parameters.tensors)->step(zeros);
  for (const size_t i : {0, 2, 3})
    EXPECT_TRUE(at::allclose(parameters.tensors[i], before[i] * 0.95)) << parameters.names[i];
  EXPECT_TRUE(at::allclose(parameters.tensors[1], before[1]));
}

TEST_P(EveryOptimizer, AParameterWithoutGradientStays) {
  const auto parameters = make_parameters();
  const auto before = parameters.tensors[0].detach().clone();
  const auto optimizer = make(parameters);
  auto gradients = make_gradients(parameters, 1);
  gradients[0].reset();
  optimizer->step(gradients);
  EXPECT_TRUE(at::equal(parameters.tensors[0], before));
  EXPECT_EQ(optimizer->count_moments(), 3);
  EXPECT_EQ(optimizer->state_dict().at("step.matrix").item<float>(), 0.0F);
  EXPECT_EQ(optimizer->state_dict().at("step.vector").item<float>(), 1.0F);
}

TEST_P(EveryOptimizer, StateGoesOnWhereItWasSaved) {
  const auto whole = make_parameters(), second = make_parameters();
  const auto optimizer = make(whole), resumed = make(second);
  const auto gradients_at = [&](int64_t step) {
    auto gradients = make_gradients(whole, step);
    if (step < 5) gradients[3].reset();  // has no moments yet when the state is saved
    return gradients;
  };
  for (int64_t step = 1; step <= 3; ++step) optimizer->step(gradients_at(step));
  std::map<std::string, at::Tensor> saved;
  for (const auto& [name, tensor] : optimizer->state_dict()) saved[name] = tensor.clone();
  resumed->step(make_gradients(second, 77));  // has moments that the state has not
  resumed->load_state_dict(saved);
  for (size_t i = 0; i < 4; ++i) second.tensors[i].detach().copy_(whole.tensors[i].detach());
  EXPECT_EQ(resumed->count_moments(), 3);
  for (int64_t step = 4; step <= 6; ++step) {
    optimizer->step(gradients_at(step));
    resumed->step(gradients_at(step));
  }
  expect_equal(whole, second);
}

TEST_P(EveryOptimizer, MastersKeepWhatBfloat16Loses) {
  const auto full = make_parameters(), low = make_parameters();
  auto masters = cast_parameters(low, at::kBFloat16);
  const auto in_full = make(full), in_low = make(low, masters);
  for (int64_t step = 1; step <= 10; ++step) {
    in_full->step(make_gradients(full, step));
    in_low->step(make_gradients(full, step));
  }
  expect_equal(in_low->weights(), full);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_TRUE(at::equal(low.tensors[i], full.tensors[i].to(at::kBFloat16)));
}

TEST_P(EveryOptimizer, RefusesAStateThatDoesNotFit) {
  const auto parameters = make_parameters();
  const auto optimizer = make(parameters);
  optimizer->step(make_gradients(parameters, 1));
  const auto state = optimizer->state_dict();
  for (const auto& [name, tensor] : state) {
    auto lacking = state;
    lacking.erase(name);
    EXPECT_THROW(optimizer->load_state_dict(lacking), InputError) << name;
    auto wrong = state;
    wrong[name] = at::zeros({13});
    EXPECT_THROW(optimizer->load_state_dict(wrong), InputError) << name;
  }
}

TEST_P(EveryOptimizer, StepsOnCudaAreThoseOfTheCpu) {
  if (!no_cuda().empty()) GTEST_SKIP() << no_cuda();
  const auto here = make_parameters(), there = make_parameters(at::Device(at::kCUDA, 0));
  const auto on_cpu = make(here), on_cuda = make(there);
  for (int64_t step = 1; step <= 8; ++step) {
    const bool is_bad = step == 1 || step == 4;
    for (const auto& [optimizer, parameters] :
         {std::pair(on_cpu.get(), &here), std::pair(on_cuda.get(), &there)}) {
      optimizer->set_learning_rate(0.001 * static_cast<double>(step));
      auto gradients = make_gradients(*parameters, step);
      if (is_bad) gradients[0].fill_(std::nan("")), gradients[1].fill_(INFINITY);
      const auto device = parameters->tensors[0].device();
      optimizer->step(gradients, at::full({}, 2.0, device),
                      at::full({}, is_bad ? 1.0 : 0.0, device));
    }
  }
  const double tolerance = std::string(GetParam()) == "muon" ? 1e-3 : 1e-5;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(at::allclose(there.tensors[i].cpu(), here.tensors[i], 0, tolerance))
        << here.names[i];
  }
  EXPECT_EQ(on_cuda->state_dict().at("step.matrix").item<float>(), 6.0F);
}

INSTANTIATE_TEST_SUITE_P(All, EveryOptimizer, testing::Values("adamw", "lion", "muon", "adafactor"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Muon, OrthogonalizesWideAndTallMatrices) {
  at::manual_seed(0);
  const MuonOptions options;
  for (const auto& shape : std::vector<std::vector<int64_t>>{{8, 8}, {12, 5}, {4, 9}, {3, 6, 4}}) {
    const auto matrix = at::randn(shape);
    const auto found =
        orthogonalized(matrix, options.ns_coefficients, options.ns_steps, options.eps)
            .to(at::kFloat);
    ASSERT_EQ(found.sizes(), matrix.sizes());
    // The polynomial takes singular values near 1, and keeps the singular vectors.
    const auto values = at::linalg_svdvals(found);
    EXPECT_GT(values.min().item<double>(), 0.4);
    EXPECT_LT(values.max().item<double>(), 1.4);
    const auto [u, s, v] = at::linalg_svd(matrix, /*full_matrices=*/false);
    const auto overlap = (at::matmul(u, v) * found).sum() / found.norm() / at::matmul(u, v).norm();
    EXPECT_GT(overlap.item<double>(), 0.95);
  }
}

TEST(Muon, TakesTheMatricesThatAreNamedAndAdamWTheRest) {
  OptimizerOptions options;
  options.optimizer = "muon";
  const auto parameters = make_parameters();
  const auto optimizer =
      make_optimizer(options, parameters, {}, {parameters.tensors[0], parameters.tensors[1]});
  const auto& muon = dynamic_cast<const MuonAdamW&>(*optimizer);
  EXPECT_EQ(muon.muon_names(), std::vector<std::string>{"matrix"});  // a vector is no matrix
  optimizer->step(make_gradients(parameters, 1));
  const auto state = optimizer->state_dict();
  EXPECT_TRUE(state.contains("momentum_buffer.matrix"));
  EXPECT_TRUE(state.contains("exp_avg.wide"));
  EXPECT_FALSE(state.contains("exp_avg.matrix"));
  EXPECT_THROW(make_optimizer(options, parameters, {}, {parameters.tensors[1]}), InputError);
}

std::string refusal(const std::string& json) {
  try {
    validate(options_from_json<OptimizerOptions>(Json::parse(json), "train"));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(OptimizerOptions, NameWhatIsWrong) {
  using testing::AllOf;
  using testing::HasSubstr;
  EXPECT_EQ(refusal(R"({"optimizer": "lion", "lion": {"beta1": 0.5}})"), "");
  EXPECT_EQ(refusal(R"({"optimizer": "muon", "beta1": 0.5, "muon_momentum": 0.5})"), "");
  EXPECT_THAT(refusal(R"({"optimizer": "adam"})"),
              AllOf(HasSubstr("optimizer"), HasSubstr("lion"), HasSubstr("'adam'")));
  EXPECT_THAT(refusal(R"({"optimizer": "lion", "lion": {"beta1": 1}})"), HasSubstr("lion_beta1"));
  EXPECT_THAT(refusal(R"({"lion_beta1": 0.5})"),
              HasSubstr("lion_beta1: is an option of lion, but optimizer is adamw"));
  EXPECT_THAT(refusal(R"({"muon": {"nesterov": false}})"),
              HasSubstr("muon_nesterov: is an option of muon, but optimizer is adamw"));
  EXPECT_THAT(refusal(R"({"optimizer": "lion", "beta1": 0.5})"), HasSubstr("beta1"));
  EXPECT_THAT(refusal(R"({"optimizer": "adafactor", "eps": 1e-6})"), HasSubstr("adafactor"));
  EXPECT_THAT(refusal(R"({"optimizer": "muon", "muon_ns_coefficients": [1, 2]})"),
              HasSubstr("muon_ns_coefficients"));
  EXPECT_THAT(refusal(R"({"optimizer": "muon", "muon": {"adjust_lr_fn": "orginal"}})"),
              AllOf(HasSubstr("muon_adjust_lr_fn"), HasSubstr("match_rms_adamw")));
  EXPECT_THAT(refusal(R"({"optimizer": "muon", "muon_parameters": "all"})"),
              HasSubstr("muon_parameters"));
  EXPECT_THAT(refusal(R"({"optimizer": "adafactor", "adafactor_d": 0.5})"),
              HasSubstr("adafactor_d"));
  EXPECT_THAT(refusal(R"({"optimizer": "adafactor", "adafactor_beta2_decay": 0.5})"),
              HasSubstr("adafactor_beta2_decay"));
}

}  // namespace
}  // namespace x_transformers::optimizers_test
