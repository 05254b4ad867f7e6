#include "x_transformers/optim/parameters.h"

#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

struct TwoLayersImpl : torch::nn::Module {
  TwoLayersImpl() {
    first = register_module("first", torch::nn::Linear(3, 4));
    frozen = register_parameter("frozen", at::ones({2}), /*requires_grad=*/false);
    tied = register_parameter("tied", first->weight);
    register_buffer("buffer", at::ones({2}));
  }
  torch::nn::Linear first{nullptr};
  at::Tensor frozen, tied;
};

TEST(ParametersTest, ListsWhatTrainsOnce) {
  TwoLayersImpl model;
  const auto found = trainable_parameters(model);
  ASSERT_EQ(found.names.size(), 2U);
  EXPECT_EQ(found.tensors.size(), 2U);
  EXPECT_EQ(std::count(found.names.begin(), found.names.end(), "first.bias"), 1);
}

TEST(ParametersTest, RefusesNothingToTrainAndMixedTypes) {
  torch::nn::Module empty;
  EXPECT_THROW(trainable_parameters(empty), InputError);
  TwoLayersImpl model;
  model.first->bias.set_data(model.first->bias.detach().to(at::kBFloat16));
  EXPECT_THROW(trainable_parameters(model), InputError);
}

TEST(ParametersTest, CastIsSeenByTheModuleAndKeepsFullPrecision) {
  TwoLayersImpl model;
  const at::Tensor before = model.first->weight.detach().clone();
  const auto masters = cast_parameters(trainable_parameters(model), at::kBFloat16);
  EXPECT_EQ(model.first->weight.scalar_type(), at::kBFloat16);
  EXPECT_EQ(model.tied.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(model.first->weight, before.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(masters[0], before) || at::equal(masters[1], before));
  model.first->forward(at::ones({1, 3}, at::kBFloat16)).sum().backward();
  EXPECT_EQ(model.first->weight.grad().scalar_type(), at::kBFloat16);
}

TEST(ParametersTest, WhatIsFrozenIsCastBesideWhatTrains) {
  TwoLayersImpl model;
  const auto masters = cast_parameters(model, trainable_parameters(model), at::kBFloat16);
  EXPECT_EQ(masters.size(), 2U);
  EXPECT_EQ(model.named_parameters()["frozen"].scalar_type(), at::kBFloat16);
}

TEST(ParametersTest, ScopedWeightsComeAndGo) {
  TwoLayersImpl model;
  cast_parameters(trainable_parameters(model), at::kBFloat16);
  const auto parameters = trainable_parameters(model).tensors;
  const void* address = model.first->weight.data_ptr();
  const at::Tensor before = model.first->weight.detach().clone();
  {
    std::vector<at::Tensor> values;
    for (const at::Tensor& parameter : parameters)
      values.push_back(at::full(parameter.sizes(), 7.0));
    const ScopedWeights scope(parameters, values);
    EXPECT_EQ(model.first->weight.scalar_type(), at::kFloat);
    EXPECT_EQ(model.first->weight.detach().min().item<float>(), 7.0F);
  }
  EXPECT_EQ(model.first->weight.data_ptr(), address);
  EXPECT_TRUE(at::equal(model.first->weight, before));
  EXPECT_TRUE(model.first->weight.requires_grad());
  model.first->forward(at::ones({1, 3}, at::kBFloat16)).sum().backward();
  EXPECT_TRUE(model.first->weight.grad().defined());
}

}  // namespace
}  // namespace x_transformers
