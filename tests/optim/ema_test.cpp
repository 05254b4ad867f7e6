#include "x_transformers/optim/ema.h"

#include <gtest/gtest.h>

#include <cmath>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

TEST(EmaTest, IsTheMeanWeightedByAge) {
  const at::Tensor weight = at::zeros({2, 3}).requires_grad_(true);
  Ema ema({{"weight"}, {weight}}, 0.9);
  double sum = 0, count = 0;
  for (int step = 1; step <= 20; ++step) {
    weight.detach().fill_(step * step);
    ema.update();
    sum = 0.9 * sum + step * step;
    count = 0.9 * count + 1;
  }
  EXPECT_TRUE(at::allclose(ema.averages()[0], at::full({2, 3}, sum / count)));
}

TEST(EmaTest, StartsFromTheWeights) {
  const at::Tensor weight = at::full({3}, 5.0);
  Ema ema({{"weight"}, {weight}}, 0.999);
  EXPECT_TRUE(at::equal(ema.averages()[0], weight));
  EXPECT_NE(ema.averages()[0].data_ptr(), weight.data_ptr());
  ema.update();
  EXPECT_TRUE(at::allclose(ema.averages()[0], weight));
}

TEST(EmaTest, StateGoesOnWhereItWasSaved) {
  const at::Tensor weight = at::zeros({4});
  Ema whole({{"weight"}, {weight}}, 0.5), resumed({{"weight"}, {weight}}, 0.5);
  for (int step = 1; step <= 6; ++step) {
    weight.fill_(step);
    whole.update();
    if (step == 3) resumed.load_state_dict(whole.state_dict());
    if (step > 3) resumed.update();
  }
  EXPECT_TRUE(at::equal(whole.averages()[0], resumed.averages()[0]));
}

TEST(EmaTest, RefusesBadInput) {
  const NamedTensors weights{{"weight"}, {at::zeros({4})}};
  EXPECT_THROW(Ema(weights, 1.0), InputError);
  EXPECT_THROW(Ema(weights, 0.0), InputError);
  EXPECT_THROW(Ema(weights, std::nan("")), InputError);
  Ema ema(weights, 0.5);
  EXPECT_THROW(ema.load_state_dict({{"ema_count", at::zeros({})}}), InputError);
}

}  // namespace
}  // namespace x_transformers
