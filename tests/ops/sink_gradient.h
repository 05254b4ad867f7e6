// What flash attention may lose of the gradient of sinks.
#pragma once

#include "ops/compare_with_reference.h"

namespace x_transformers {

/// The gradient of the sinks, which are the last of the `inputs`, as in every flash attention comes
/// by way of the output rounded to `type`: `got` is as near the exact one as the reference's, but
/// for what that rounding takes.
inline void expect_sink_as_near(const Op& reference, const Tensors& inputs, const at::Tensor& got,
                                const at::Tensor& by_reference, at::ScalarType type) {
  Tensors leaves;
  for (const auto& input : inputs) leaves.push_back(input.to(at::kDouble));
  auto& sink = leaves.back();
  sink.requires_grad_();
  const auto out = reference(leaves), out_gradient = output_gradient(out, type);
  const auto gradient = [&](const at::Tensor& by_output) {
    return torch::autograd::grad({out}, {sink}, {by_output}, /*retain_graph=*/true)[0];
  };
  const auto exact = gradient(out_gradient);
  const auto error = [&](const at::Tensor& t) { return (t - exact).norm().item<double>(); };
  EXPECT_LE(error(got), 2 * error(by_reference) + allowance(exact, type) +
                            rounding_by_output(gradient, out.detach(), out_gradient, type))
      << "gradient of the sinks in " << at::toString(type) << ", norm "
      << exact.norm().item<double>();
}

}  // namespace x_transformers
