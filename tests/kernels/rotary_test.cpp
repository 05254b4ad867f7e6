#include "x_transformers/kernels/cpu/rotary.h"

#include <cmath>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

class RotaryKernelTest : public EachIsa {};

/// Shapes of one case; x lies as [b, n, h, d] and y as [b, h, n, d].
struct Shape {
  int64_t batch, heads, length, dim, rotated;
};

RotaryParams params_for(const Shape& s, const std::vector<float>& x, Guarded& y) {
  RotaryParams params;
  params.x = x.data();
  params.y = y.data();
  params.x_strides[0] = params.y_strides[0] = s.heads * s.length * s.dim;
  params.x_strides[1] = s.dim;
  params.x_strides[2] = s.heads * s.dim;
  params.y_strides[1] = s.length * s.dim;
  params.y_strides[2] = s.dim;
  params.batch = s.batch;
  params.heads = s.heads;
  params.length = s.length;
  params.dim = s.dim;
  params.rotated = s.rotated;
  return params;
}

TEST_F(RotaryKernelTest, TurnsPairsAndCopiesTheRest) {
  for_each_isa([] {
    for (const Shape& s : {Shape{2, 3, 5, 8, 8}, Shape{1, 2, 7, 11, 6}, Shape{2, 1, 3, 64, 32},
                           Shape{1, 1, 4, 40, 38}, Shape{1, 2, 2, 5, 0}}) {
      const auto x = random_floats(s.batch * s.heads * s.length * s.dim, 7);
      const int64_t half = s.rotated / 2;
      const auto angles = random_floats(s.length * half, 8);
      std::vector<float> cos, sin, scale;
      for (const float angle : angles) {
        cos.push_back(std::cos(angle));
        sin.push_back(std::sin(angle));
        scale.push_back(1.5f + 0.1f * angle);
      }
      Guarded y(static_cast<int64_t>(x.size()));
      auto params = params_for(s, x, y);
      params.cos = cos.data();
      params.sin = sin.data();
      params.scale = scale.data();
      params.inverse_scale = s.batch == 2;
      rotary(params);
      for (int64_t b = 0; b < s.batch; ++b) {
        for (int64_t h = 0; h < s.heads; ++h) {
          for (int64_t n = 0; n < s.length; ++n) {
            const float* in = x.data() + ((b * s.length + n) * s.heads + h) * s.dim;
            const int64_t out = ((b * s.heads + h) * s.length + n) * s.dim;
            for (int64_t i = 0; i < half; ++i) {
              const double factor =
                  params.inverse_scale ? 1.0 / scale[n * half + i] : 1.0 * scale[n * half + i];
              const double c = cos[n * half + i] * factor, w = sin[n * half + i] * factor;
              ASSERT_NEAR(y[out + 2 * i], in[2 * i] * c - in[2 * i + 1] * w, 1e-5);
              ASSERT_NEAR(y[out + 2 * i + 1], in[2 * i + 1] * c + in[2 * i] * w, 1e-5);
            }
            for (int64_t i = s.rotated; i < s.dim; ++i) ASSERT_EQ(y[out + i], in[i]);
          }
        }
      }
    }
  });
}

TEST_F(RotaryKernelTest, BackwardsUndoesForwards) {
  for_each_isa([] {
    const Shape s{1, 2, 3, 12, 12};
    const auto x = random_floats(2 * 3 * 12, 9);
    std::vector<float> cos, sin;
    for (const float angle : random_floats(3 * 6, 10)) {
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
    Guarded rotated(72), back(72);
    auto params = params_for(s, x, rotated);
    params.cos = cos.data();
    params.sin = sin.data();
    rotary(params);
    params.x = rotated.data();
    params.y = back.data();
    std::swap(params.x_strides, params.y_strides);
    params.backwards = true;
    rotary(params);
    for (int64_t i = 0; i < 72; ++i) EXPECT_NEAR(back[i], x[i], 1e-5);
  });
}

}  // namespace
}  // namespace x_transformers::kernels
