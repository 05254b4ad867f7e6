#include "x_transformers/optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

/// A matrix, a vector and a 3-dimensional tensor, always the same.
NamedTensors make_parameters() {
  at::manual_seed(1);
  NamedTensors parameters{{"matrix", "vector", "cube"}, {}};
  for (const auto& shape : std::vector<std::vector<int64_t>>{{5, 7}, {11}, {2, 3, 4}}) {
    parameters.tensors.push_back(at::randn(shape).requires_grad_(true));
  }
  return parameters;
}

std::vector<at::Tensor> make_gradients(const NamedTensors& parameters, int64_t step) {
  at::manual_seed(100 + step);
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& tensor : parameters.tensors)
    gradients.push_back(at::randn(tensor.sizes()));
  return gradients;
}

/// The formula of arXiv:1711.05101, element by element in double.
class Reference {
 public:
  Reference(const NamedTensors& parameters, AdamWOptions options) : options_(options) {
    for (const at::Tensor& tensor : parameters.tensors) {
      weights.push_back(tensor.detach().to(at::kDouble).clone());
      means_.push_back(at::zeros_like(weights.back()));
      squares_.push_back(at::zeros_like(weights.back()));
    }
  }
  void step(const std::vector<at::Tensor>& gradients, double learning_rate) {
    ++steps_;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double decay = weights[i].dim() >= 2 ? options_.weight_decay : 0.0;
      const at::Tensor gradient = gradients[i].to(at::kDouble);
      auto *w = weights[i].data_ptr<double>(), *m = means_[i].data_ptr<double>(),
           *v = squares_[i].data_ptr<double>();
      const auto* g = gradient.data_ptr<double>();
      for (int64_t j = 0; j < weights[i].numel(); ++j) {
        m[j] = options_.beta1 * m[j] + (1 - options_.beta1) * g[j];
        v[j] = options_.beta2 * v[j] + (1 - options_.beta2) * g[j] * g[j];
        const double mean = m[j] / (1 - std::pow(options_.beta1, steps_));
        const double square = v[j] / (1 - std::pow(options_.beta2, steps_));
        w[j] -= learning_rate * decay * w[j];
        w[j] -= learning_rate * mean / (std::sqrt(square) + options_.eps);
      }
    }
  }
  std::vector<at::Tensor> weights;

 private:
  AdamWOptions options_;
  std::vector<at::Tensor> means_, squares_;
  int steps_ = 0;
};

TEST(AdamWTest, TenStepsFollowTheFormula) {
  const auto parameters = make_parameters();
  AdamWOptions options;
  options.weight_decay = 0.3;
  Reference reference(parameters, options);
  AdamW optimizer(parameters, options);
  for (int64_t step = 1; step <= 10; ++step) {
    const double learning_rate = 0.01 * static_cast<double>(step);
    const auto gradients = make_gradients(parameters, step);
    reference.step(gradients, learning_rate);
    optimizer.set_learning_rate(learning_rate);
    optimizer.step(gradients);
  }
  for (size_t i = 0; i < parameters.tensors.size(); ++i) {
    const double error =
        (parameters.tensors[i].to(at::kDouble) - reference.weights[i]).abs().max().item<double>();
    EXPECT_LT(error, 2e-6) << parameters.names[i];
  }
}

TEST(AdamWTest, OnlyTensorsWithTwoDimensionsDecay) {
  const auto parameters = make_parameters();
  const auto before = parameters.tensors;
  std::vector<at::Tensor> copies, zeros;
  for (const at::Tensor& tensor : before) {
    copies.push_back(tensor.detach().clone());
    zeros.push_back(at::zeros_like(tensor));
  }
  AdamWOptions options;
  options.learning_rate = 0.1;
  options.weight_decay = 0.5;
  AdamW optimizer(parameters, options);
  optimizer.step(zeros);
  EXPECT_TRUE(at::allclose(parameters.tensors[0], copies[0] * 0.95));
  EXPECT_TRUE(at::equal(parameters.tensors[1], copies[1]));
  EXPECT_TRUE(at::allclose(parameters.tensors[2], copies[2] * 0.95));
}

TEST(AdamWTest, GradScaleDivides) {
  const auto scaled = make_parameters(), plain = make_parameters();
  AdamW scaled_optimizer(scaled, {}), plain_optimizer(plain, {});
  for (int64_t step = 1; step <= 3; ++step) {
    auto gradients = make_gradients(plain, step);
    plain_optimizer.step(gradients);
    for (at::Tensor& gradient : gradients) gradient.mul_(4.0);
    scaled_optimizer.step(gradients, at::full({}, 4.0));
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(scaled.tensors[i], plain.tensors[i]));
}

TEST(AdamWTest, AStepWithFoundInfLeavesNoTrace) {
  const auto skipped = make_parameters(), plain = make_parameters();
  AdamW skipping(skipped, {}), plain_optimizer(plain, {});
  for (int64_t step = 1; step <= 4; ++step) {
    auto bad = make_gradients(plain, 50 + step);
    bad[0].fill_(std::nan(""));
    skipping.step(bad, {}, at::ones({}));
    skipping.step(make_gradients(plain, step), {}, at::zeros({}));
    plain_optimizer.step(make_gradients(plain, step));
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(skipped.tensors[i], plain.tensors[i]));
  EXPECT_EQ(skipping.state_dict().at("step.matrix").item<float>(), 4.0F);
}

TEST(AdamWTest, AParameterWithoutGradientStays) {
  const auto parameters = make_parameters();
  const at::Tensor before = parameters.tensors[0].detach().clone();
  AdamW optimizer(parameters, {});
  auto gradients = make_gradients(parameters, 1);
  gradients[0].reset();
  optimizer.step(gradients);
  EXPECT_TRUE(at::equal(parameters.tensors[0], before));
  EXPECT_EQ(optimizer.state_dict().at("step.matrix").item<float>(), 0.0F);
  EXPECT_EQ(optimizer.state_dict().at("step.vector").item<float>(), 1.0F);
}

TEST(AdamWTest, MomentsAreMadeByTheFirstGradient) {
  const auto whole = make_parameters(), second = make_parameters();
  AdamW optimizer(whole, {});
  EXPECT_EQ(optimizer.count_moments(), 0);
  const auto gradients_at = [&](int64_t step) {
    auto gradients = make_gradients(whole, step);
    if (step < 3) gradients[0].reset();
    return gradients;
  };
  for (int64_t step = 1; step <= 2; ++step) optimizer.step(gradients_at(step));
  EXPECT_EQ(optimizer.count_moments(), 2);
  const auto state = optimizer.state_dict();
  EXPECT_FALSE(state.contains("exp_avg.matrix"));

  AdamW resumed(second, {});
  resumed.step(make_gradients(second, 9));  // has moments that the state has not
  for (size_t i = 0; i < 3; ++i) second.tensors[i].detach().copy_(whole.tensors[i].detach());
  resumed.load_state_dict(state);
  EXPECT_EQ(resumed.count_moments(), 2);
  for (int64_t step = 3; step <= 5; ++step) {
    optimizer.step(gradients_at(step));
    resumed.step(gradients_at(step));
  }
  EXPECT_EQ(optimizer.count_moments(), 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(whole.tensors[i], second.tensors[i]));
}

TEST(AdamWTest, MastersKeepWhatBfloat16Loses) {
  const auto full = make_parameters(), low = make_parameters();
  auto masters = cast_parameters(low, at::kBFloat16);
  ASSERT_EQ(low.tensors[0].scalar_type(), at::kBFloat16);
  ASSERT_TRUE(at::equal(masters[0], full.tensors[0]));
  AdamWOptions options;
  options.learning_rate = 1e-4;  // far below the spacing of bf16 numbers near 1
  AdamW full_optimizer(full, options), low_optimizer(low, options, masters);
  for (int64_t step = 1; step <= 10; ++step) {
    full_optimizer.step(make_gradients(full, step));
    low_optimizer.step(make_gradients(full, step));
  }
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::equal(low_optimizer.weights().tensors[i], full.tensors[i]));
    EXPECT_TRUE(at::equal(low.tensors[i], full.tensors[i].to(at::kBFloat16)));
  }
}

TEST(AdamWTest, StateGoesOnWhereItWasSaved) {
  const auto whole = make_parameters(), second = make_parameters();
  AdamW whole_optimizer(whole, {});
  std::map<std::string, at::Tensor> saved;
  for (int64_t step = 1; step <= 6; ++step) {
    whole_optimizer.step(make_gradients(whole, step));
    if (step != 3) continue;
    for (const auto& [name, tensor] : whole_optimizer.state_dict()) saved[name] = tensor.clone();
    for (size_t i = 0; i < 3; ++i) second.tensors[i].detach().copy_(whole.tensors[i].detach());
  }
  AdamW resumed(second, {});
  resumed.load_state_dict(saved);
  for (int64_t step = 4; step <= 6; ++step) resumed.step(make_gradients(whole, step));
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(whole.tensors[i], second.tensors[i]));
}

TEST(AdamWTest, RefusesAStateThatDoesNotFit) {
  const auto parameters = make_parameters();
  AdamW optimizer(parameters, {});
  optimizer.step(make_gradients(parameters, 1));
  auto state = optimizer.state_dict();
  state["exp_avg.vector"] = at::zeros({3});
  EXPECT_THROW(optimizer.load_state_dict(state), InputError);
  state.erase("exp_avg.vector");
  try {
    optimizer.load_state_dict(state);
    FAIL() << "a state without exp_avg.vector was taken";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("'exp_avg.vector'"), std::string::npos)
        << error.what();
  }
}

TEST(AdamWTest, RefusesOptionsThatMakeNoSense) {
  const auto with = [](double AdamWOptions::*field, double value) {
    AdamWOptions options;
    options.*field = value;
    return options;
  };
  EXPECT_NO_THROW(validate(AdamWOptions{}));
  EXPECT_THROW(validate(with(&AdamWOptions::learning_rate, 0)), InputError);
  EXPECT_THROW(validate(with(&AdamWOptions::beta1, 1)), InputError);
  EXPECT_THROW(validate(with(&AdamWOptions::beta2, -0.1)), InputError);
  EXPECT_THROW(validate(with(&AdamWOptions::eps, std::nan(""))), InputError);
  EXPECT_THROW(validate(with(&AdamWOptions::weight_decay, -1)), InputError);
}

}  // namespace
}  // namespace x_transformers
