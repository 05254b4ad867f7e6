// Mixes of layers against sums written out; those of our CUDA kernel, one after another as in a
// stack, against the reference.
#include "x_transformers/ops/layer_mix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

Tensors some_layers(int64_t count, at::IntArrayRef sizes) {
  at::manual_seed(3);
  Tensors layers;
  for (int64_t l = 0; l < count; ++l) layers.push_back(at::randn(sizes));
  return layers;
}

TEST(LayerMix, WeighsEachLayerByTheToken) {
  const auto layers = some_layers(3, {2, 5, 4});
  const auto logits = at::randn({2, 5, 2, 3});
  for (const bool softmax : {true, false}) {
    const auto weights = softmax ? logits.softmax(-1) : logits.relu();
    const auto result = mix_layers(layers, logits, softmax);
    EXPECT_EQ(result.layers.size(), layers.size());
    for (int64_t view = 0; view < 2; ++view) {
      auto expected = at::zeros_like(layers[0]);
      for (int64_t l = 0; l < 3; ++l)
        expected = expected + layers[l] * weights.select(2, view).narrow(-1, l, 1);
      expect_close(result.mixed[view], expected);
    }
  }
}

TEST(LayerMix, RefusesWhatDoesNotFit) {
  const auto layers = some_layers(3, {2, 5, 4});
  EXPECT_THROW(mix_layers({}, at::randn({2, 5, 1, 0})), InputError);
  EXPECT_THROW(mix_layers(layers, at::randn({2, 5, 1, 2})), InputError);
  EXPECT_THROW(mix_layers(layers, at::randn({2, 4, 1, 3})), InputError);
  EXPECT_THROW(mix_layers({layers[0], layers[1], at::randn({2, 5, 3})}, at::randn({2, 5, 1, 3})),
               InputError);
}

/// A stack's mixes: each reads what the ones before have read, and one layer more. Inputs are a
/// first layer, then logits and what is added to a mix to make the next layer.
at::Tensor stack_of_mixes(const Tensors& inputs, bool by_kernel) {
  Tensors layers = {inputs[0]};
  at::Tensor seen;
  for (size_t i = 1; i + 1 < inputs.size(); i += 2) {
    const auto& logits = inputs[i];
    at::Tensor mixed;
    if (by_kernel) {
      auto result = mix_layers(layers, logits);
      mixed = result.mixed;
      layers = result.layers;
    } else {
      mixed = mix_layers_on("reference", layers, logits);
    }
    const auto next = mixed.sum(0) * inputs[i + 1] + layers.back();
    seen = next + layers.front();
    layers.push_back(next);
  }
  return seen;
}

Tensors inputs_of_stack(int64_t mixes, at::IntArrayRef sizes) {
  Tensors inputs = some_layers(1, sizes);
  for (int64_t i = 0; i < mixes; ++i) {
    inputs.push_back(at::randn({sizes[0], sizes[1], i % 3 + 1, i + 1}));
    inputs.push_back(at::randn(sizes) * 0.3);
  }
  return inputs;
}

class LayerMixOnCuda : public OnOurCudaKernels {};

TEST_F(LayerMixOnCuda, GradientsOfAStackAreThoseOfTheReference) {
  const at::Device gpu(at::kCUDA, 0);
  for (const int64_t mixes : {1, 2, 9, 14}) {
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const int64_t dim : {7, 64}) {
        SCOPED_TRACE(std::to_string(mixes) + " mixes");
        x_transformers::expect_as_good_as_reference(
            [](const Tensors& t) { return stack_of_mixes(t, true); },
            [](const Tensors& t) { return stack_of_mixes(t, false); },
            inputs_of_stack(mixes, {2, 19, dim}), type, gpu);
      }
    }
  }
}

TEST_F(LayerMixOnCuda, GradientsOfGradients) {
  expect_second_order_as_good_as_reference(
      [](const Tensors& t) { return stack_of_mixes(t, true); },
      [](const Tensors& t) { return stack_of_mixes(t, false); }, inputs_of_stack(6, {2, 3, 8}),
      at::Device(at::kCUDA, 0));
}

TEST_F(LayerMixOnCuda, KeepsGradientsThatSomeoneElseHolds) {
  auto layers = some_layers(2, {2, 5, 16});
  for (auto& layer : layers) layer = layer.cuda().requires_grad_();
  const auto logits = at::randn({2, 5, 1, 2}).cuda();
  const auto result = mix_layers(layers, logits);
  const auto held = at::randn({2, 5, 16}).cuda(), before = held.clone();
  const auto gradient = torch::autograd::grad({result.mixed, result.layers[0]}, {layers[0]},
                                              {at::ones_like(result.mixed), held});
  expect_close(held.cpu(), before.cpu());
  expect_close(gradient[0].cpu(),
               (before + logits.softmax(-1).select(2, 0).narrow(-1, 0, 1)).cpu());
}

}  // namespace
}  // namespace x_transformers
