#include "x_transformers/kernels/cpu/offset_scale.h"

#include <cstdint>
#include <vector>

#include "kernels/guarded.h"
#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

class OffsetScaleTest : public EachIsa {};

struct OffsetScaleSizes {
  int64_t heads, rows, dim;
};

constexpr OffsetScaleSizes kOffsetScaleSizes[] = {{1, 1, 1}, {4, 3, 17}, {2, 70, 64}, {3, 33, 129}};

size_t cell(int64_t i) { return static_cast<size_t>(i); }

TEST_F(OffsetScaleTest, ScalesAndMovesEachCopy) {
  for_each_isa([] {
    for (const auto& s : kOffsetScaleSizes) {
      const auto x = random_floats(s.rows * s.dim, 1), gamma = random_floats(s.heads * s.dim, 2),
                 beta = random_floats(s.heads * s.dim, 3);
      Guarded y(s.heads * s.rows * s.dim);
      offset_scale_forward({x.data(), gamma.data(), beta.data(), y.data(), s.heads, s.rows, s.dim});
      for (int64_t i = 0; i < y.size(); ++i) {
        const auto of_head = cell(i / (s.rows * s.dim) * s.dim + i % s.dim);
        ASSERT_NEAR(y[i], x[cell(i % (s.rows * s.dim))] * gamma[of_head] + beta[of_head], 1e-5)
            << i;
      }
    }
  });
}

TEST_F(OffsetScaleTest, Gradients) {
  for_each_isa([] {
    for (const auto& s : kOffsetScaleSizes) {
      const auto x = random_floats(s.rows * s.dim, 1), gamma = random_floats(s.heads * s.dim, 2),
                 y_grad = random_floats(s.heads * s.rows * s.dim, 3);
      const auto chunks = row_chunks(s.rows);
      Guarded x_grad(s.rows * s.dim), gamma_grad(chunks * s.heads * s.dim),
          beta_grad(chunks * s.heads * s.dim);
      OffsetScaleBackward params;
      params.x = x.data();
      params.gamma = gamma.data();
      params.y_grad = y_grad.data();
      params.x_grad = x_grad.data();
      params.gamma_grad = gamma_grad.data();
      params.beta_grad = beta_grad.data();
      params.heads = s.heads;
      params.rows = s.rows;
      params.dim = s.dim;
      offset_scale_backward(params);
      std::vector<double> of_x(cell(s.rows * s.dim)), of_gamma(cell(s.heads * s.dim)),
          of_beta(cell(s.heads * s.dim));
      for (int64_t i = 0; i < s.heads * s.rows * s.dim; ++i) {
        const auto row = cell(i % (s.rows * s.dim));
        const auto of_head = cell(i / (s.rows * s.dim) * s.dim + i % s.dim);
        of_x[row] += double{y_grad[cell(i)]} * gamma[of_head];
        of_gamma[of_head] += double{y_grad[cell(i)]} * x[row];
        of_beta[of_head] += y_grad[cell(i)];
      }
      for (int64_t i = 0; i < x_grad.size(); ++i) ASSERT_NEAR(x_grad[i], of_x[cell(i)], 1e-4) << i;
      for (int64_t i = 0; i < s.heads * s.dim; ++i) {
        double gamma_sum = 0, beta_sum = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          gamma_sum += gamma_grad[chunk * s.heads * s.dim + i];
          beta_sum += beta_grad[chunk * s.heads * s.dim + i];
        }
        ASSERT_NEAR(gamma_sum, of_gamma[cell(i)], 1e-3) << i;
        ASSERT_NEAR(beta_sum, of_beta[cell(i)], 1e-3) << i;
      }
    }
  });
}

}  // namespace
}  // namespace x_transformers::kernels
