// Hyper-connections against their formulas; those of our CUDA kernels against the reference.
#include "x_transformers/ops/hyper_connection.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

/// Streams [batch * streams, n, dim], the weights, and what the layer gives.
Tensors some_inputs(int64_t streams, int64_t n, int64_t dim, int64_t views) {
  at::manual_seed(5);
  return {at::randn({2 * streams, n, dim}) + 0.5,
          at::randn({dim}) * 0.2 + 1,
          at::randn({dim, views + streams}) * 0.2,
          at::randn({}).abs() + 0.5,
          at::randn({streams, views + streams}),
          at::randn({dim}) * 0.2,
          at::randn({}).abs() + 0.5,
          at::randn({streams}),
          at::randn({2, n, dim})};
}

HyperConnectionWeights weights_in(const Tensors& t) {
  return {t[1], t[2], t[3], t[4], t[5], t[6], t[7]};
}

TEST(HyperConnection, WeighsStreamsByTheToken) {
  constexpr int64_t kStreams = 3;
  for (const int64_t views : {1, 2, 3}) {
    const auto t = some_inputs(kStreams, 4, 8, views);
    const auto width = hyper_width(t[0], weights_in(t), views);
    const auto streams = t[0].view({2, kStreams, 4, 8});
    expect_close(width.sum, streams.sum(1));
    auto inputs = at::zeros({views, 2, 4, 8});
    for (int64_t j = 0; j < kStreams; ++j) {
      const auto stream = streams.select(1, j);
      const auto normed = at::layer_norm(stream, {8}, t[1]);
      for (int64_t view = 0; view < views; ++view) {
        const auto along = at::matmul(normed, t[2].select(1, view)) * t[3] + t[4][j][view];
        inputs[view] += stream * along.sigmoid().unsqueeze(-1);
      }
      const auto beta = (at::matmul(normed, t[5]).sigmoid() * 2 * t[6] + t[7][j]).sigmoid() * 2;
      expect_close(width.beta.select(2, j), beta);
    }
    expect_close(width.input, inputs);
    const auto joined = hyper_depth(t[8], width.sum, width.beta).view({2, kStreams, 4, 8});
    for (int64_t j = 0; j < kStreams; ++j)
      expect_close(joined.select(1, j), t[8] * width.beta.select(2, j).unsqueeze(-1) + width.sum);
  }
}

TEST(HyperConnection, RefusesStreamsThatDoNotDivideTheBatch) {
  const auto t = some_inputs(3, 4, 8, 1);
  EXPECT_THROW(hyper_width(t[0].narrow(0, 0, 5), weights_in(t), 1), InputError);
}

/// Two connections, one after the other.
at::Tensor two_of(const std::string& engine, const Tensors& t, int64_t views) {
  auto streams = t[0];
  for (int time = 0; time < 2; ++time) {
    const auto width = hyper_width_on(engine, streams, weights_in(t), views);
    streams = hyper_depth_on(engine, width.input.sum(0) * t[8], width.sum, width.beta);
  }
  return streams;
}

class HyperConnectionOnCuda : public OnOurCudaKernels {};

TEST_F(HyperConnectionOnCuda, OutputsAndGradientsAreThoseOfTheReference) {
  const at::Device gpu(at::kCUDA, 0);
  for (const auto& [streams, n, dim] :
       {std::array<int64_t, 3>{2, 5, 8}, {4, 70, 96}, {3, 9, 33}, {4, 600, 768}, {5, 3, 2048}}) {
    for (const int64_t views : {1, 3}) {
      for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
        SCOPED_TRACE(std::to_string(dim) + " features, " + std::to_string(views) + " views");
        x_transformers::expect_as_good_as_reference(
            [=](const Tensors& t) { return two_of("cuda", t, views); },
            [=](const Tensors& t) { return two_of("reference", t, views); },
            some_inputs(streams, n, dim, views), type, gpu);
      }
    }
  }
}

TEST_F(HyperConnectionOnCuda, GradientsOfGradients) {
  expect_second_order_as_good_as_reference(
      [](const Tensors& t) { return two_of("cuda", t, 1); },
      [](const Tensors& t) { return two_of("reference", t, 1); }, some_inputs(3, 4, 8, 1),
      at::Device(at::kCUDA, 0));
}

}  // namespace
}  // namespace x_transformers
