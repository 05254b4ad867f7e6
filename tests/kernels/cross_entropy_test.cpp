#include "x_transformers/kernels/cpu/cross_entropy.h"

#include <cmath>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

class CrossEntropyKernelTest : public EachIsa {};

TEST_F(CrossEntropyKernelTest, LossesAndGradients) {
  for_each_isa([] {
    for (const int64_t classes : {1, 2, 5, 16, 31, 256}) {
      constexpr int64_t kRows = 9;
      const auto logits = random_floats(kRows * classes, 11, 5.0f);
      std::vector<int64_t> target;
      for (int64_t row = 0; row < kRows; ++row) target.push_back(row * 7 % classes);
      target[4] = -1;
      Guarded losses(kRows), log_sum_exp(kRows), grad(kRows * classes);
      CrossEntropyForward forward;
      forward.logits = logits.data();
      forward.target = target.data();
      forward.ignore_index = -1;
      forward.losses = losses.data();
      forward.log_sum_exp = log_sum_exp.data();
      forward.rows = kRows;
      forward.classes = classes;
      cross_entropy_forward(forward);
      CrossEntropyBackward backward;
      backward.logits = logits.data();
      backward.logits_grad = grad.data();
      backward.target = target.data();
      backward.ignore_index = -1;
      backward.log_sum_exp = log_sum_exp.data();
      backward.scale = 0.5f;
      backward.rows = kRows;
      backward.classes = classes;
      cross_entropy_backward(backward);
      for (int64_t row = 0; row < kRows; ++row) {
        const float* x = logits.data() + row * classes;
        double total = 0.0;
        for (int64_t c = 0; c < classes; ++c) total += std::exp(static_cast<double>(x[c]));
        const bool ignored = target[row] == -1;
        EXPECT_NEAR(losses[row], ignored ? 0.0 : std::log(total) - x[target[row]], 1e-5);
        for (int64_t c = 0; c < classes; ++c) {
          const double want = ignored ? 0.0 : 0.5 * (std::exp(x[c]) / total - (c == target[row]));
          ASSERT_NEAR(grad[row * classes + c], want, 2e-6);
        }
      }
    }
  });
}

TEST_F(CrossEntropyKernelTest, GreatLogitsNeitherOverflowNorLoseMaskedClasses) {
  for_each_isa([] {
    std::vector<float> logits(20, -INFINITY);
    logits[3] = 3e4f;
    logits[17] = 3e4f;
    const std::vector<int64_t> target = {17};
    Guarded losses(1), log_sum_exp(1);
    CrossEntropyForward params;
    params.logits = logits.data();
    params.target = target.data();
    params.losses = losses.data();
    params.log_sum_exp = log_sum_exp.data();
    params.rows = 1;
    params.classes = 20;
    cross_entropy_forward(params);
    EXPECT_NEAR(losses[0], std::log(2.0), 4e-3);  // 3e4 has steps of 2e-3
    logits[19] = NAN;
    cross_entropy_forward(params);
    EXPECT_TRUE(std::isnan(losses[0]));
  });
}

}  // namespace
}  // namespace x_transformers::kernels
