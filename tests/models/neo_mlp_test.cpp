// Nodes of a network as tokens.
#include "x_transformers/models/neo_mlp.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include "x_transformers/core/error.h"

namespace x_transformers::neo_mlp_test {
namespace {

using testing::ThrowsMessage;

NeoMLPOptions options() {
  NeoMLPOptions options;
  options.dim_in = 3;
  options.dim_hidden = 4;
  options.dim_out = 2;
  options.dim_model = 16;
  options.depth = 1;
  return options;
}

TEST(NeoMLP, AVectorIsABatchOfOne) {
  const torch::NoGradGuard no_grad;
  NeoMLP model(options());
  const auto x = at::randn({2, 3});
  const auto both = model->forward(x), one = model->forward(x[1]);
  EXPECT_EQ(both.out.sizes(), at::IntArrayRef({2, 2}));
  EXPECT_EQ(one.out.sizes(), at::IntArrayRef({2}));
  EXPECT_TRUE(at::allclose(one.out, both.out[1], 1e-5, 1e-6));
  EXPECT_EQ(both.hidden.sizes(), at::IntArrayRef({2, 4, 16}));
}

TEST(NeoMLP, FrequenciesAreNotTrained) {
  NeoMLP model(options());
  model->forward(at::randn({2, 3})).out.square().mean().backward();
  for (const auto& parameter : model->named_parameters()) {
    const bool is_frequency = parameter.key().starts_with("random_fourier.0");
    EXPECT_EQ(parameter->requires_grad(), !is_frequency) << parameter.key();
    EXPECT_EQ(parameter->grad().defined(), !is_frequency) << parameter.key();
  }
}

TEST(NeoMLP, RefusalsNameTheOptionAsTheFileSpellsIt) {
  auto given = options();
  given.depth = -1;
  EXPECT_THAT([&] { NeoMLP{given}; },
              ThrowsMessage<InputError>("depth: expected 0 or more, got -1"));
  given = options();
  given.encoder_kwargs = NeoMLPOptions::plain_encoder();
  given.encoder_kwargs->sandwich_norm = true;
  given.encoder_kwargs->pre_norm = false;
  EXPECT_THAT([&] { NeoMLP{given}; },
              ThrowsMessage<InputError>(testing::StartsWith("encoder_kwargs.sandwich_norm")));
  NeoMLP model(options());
  EXPECT_THROW(model->forward(at::randn({2, 4})), InputError);
}

}  // namespace
}  // namespace x_transformers::neo_mlp_test
