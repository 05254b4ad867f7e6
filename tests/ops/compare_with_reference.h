// Runs an op's fast path in float32 against its reference in double: values, gradients and
// gradients of gradients.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <optional>
#include <vector>

#include "x_transformers/kernels/cpu/isa.h"

namespace x_transformers {

using Tensors = std::vector<at::Tensor>;
using Op = std::function<at::Tensor(const Tensors&)>;

/// Equal within atol + rtol * |expected|, NaN nowhere.
inline void expect_close(const at::Tensor& got, const at::Tensor& expected, double atol = 1e-5,
                         double rtol = 1e-4) {
  ASSERT_TRUE(got.defined() && expected.defined());
  ASSERT_EQ(got.sizes(), expected.sizes());
  if (got.numel() == 0) return;
  const auto a = got.detach().to(at::kDouble), b = expected.detach().to(at::kDouble);
  const auto error = (a - b).abs();
  EXPECT_TRUE(at::allclose(a, b, rtol, atol))
      << "greatest error " << error.max().item<double>() << " in " << got.sizes();
}

struct OpRun {
  at::Tensor output;
  Tensors gradients;
  Tensors second;  ///< gradients of the sum of the squares of the first gradients
};

/// Numbers of `type` as the gradient of an output.
inline at::Tensor output_gradient(const at::Tensor& output, at::ScalarType type) {
  const auto numbers = at::cos(at::arange(output.numel(), at::kDouble)).view(output.sizes());
  return numbers.to(type).to(output.options());
}

/// `inputs` become leaves of the given dtype where they are floats. The output's gradient holds
/// numbers of `gradient_type`, by default the output's.
inline OpRun run_op(const Op& op, const Tensors& inputs, at::ScalarType dtype, bool second_order,
                    std::optional<at::ScalarType> gradient_type = std::nullopt) {
  Tensors leaves, wanted;
  for (const auto& input : inputs) {
    const bool wants = input.defined() && input.is_floating_point();
    leaves.push_back(wants ? input.detach().to(dtype).clone().requires_grad_() : input);
    if (wants) wanted.push_back(leaves.back());
  }
  OpRun run;
  run.output = op(leaves);
  const auto weights =
      output_gradient(run.output, gradient_type.value_or(run.output.scalar_type()));
  run.gradients = torch::autograd::grad({run.output}, wanted, {weights}, true, second_order);
  if (!second_order) return run;
  at::Tensor total = at::zeros({}, run.output.options().dtype(dtype));
  for (const auto& gradient : run.gradients) total = total + gradient.square().sum();
  run.second = torch::autograd::grad({total}, wanted, {}, std::nullopt, false, true);
  return run;
}

struct Compared {
  double atol = 2e-5;
  bool second_order = false;
};

/// On every instruction set of this machine; also without gradients, where ops take a shorter way.
inline void expect_like_reference(const Op& fast, const Op& reference, const Tensors& inputs,
                                  const Compared& options = {}) {
  const auto expected = run_op(reference, inputs, at::kDouble, options.second_order);
  for (const auto isa : kernels::usable_isas()) {
    SCOPED_TRACE(kernels::name_of(isa));
    kernels::use_isa(isa);
    const auto got = run_op(fast, inputs, at::kFloat, options.second_order);
    expect_close(got.output, expected.output, options.atol);
    for (size_t i = 0; i < expected.gradients.size(); ++i) {
      SCOPED_TRACE("gradient " + std::to_string(i));
      expect_close(got.gradients[i], expected.gradients[i], options.atol);
    }
    for (size_t i = 0; i < expected.second.size(); ++i) {
      SCOPED_TRACE("second gradient " + std::to_string(i));
      ASSERT_EQ(got.second[i].defined(), expected.second[i].defined());
      if (got.second[i].defined()) {
        expect_close(got.second[i], expected.second[i], 10 * options.atol, 1e-3);
      }
    }
    at::NoGradGuard no_grad;
    Tensors plain;
    for (const auto& input : inputs) {
      const bool floats = input.defined() && input.is_floating_point();
      plain.push_back(floats ? input.detach().to(at::kFloat) : input);
    }
    const auto output = fast(plain);
    EXPECT_FALSE(output.requires_grad());
    expect_close(output, expected.output, options.atol);
  }
}

/// What rounding to a type of 16 bits takes off a number of size 1 at most.
inline double rounding_of(at::ScalarType type) {
  return type == at::kHalf ? std::ldexp(1.0, -11) : std::ldexp(1.0, -8);
}

/// What a result of `type` may be off the exact one that it came from: in low precision how far
/// the exact one is from itself rounded, as no result of that type is nearer, or, of a single
/// number, where that is a matter of chance, can be; in float32, whose sums differ by their order,
/// its last digits.
inline double allowance(const at::Tensor& exact, at::ScalarType type) {
  const auto norm = exact.norm().item<double>();
  if (type == at::kFloat) return 1e-6 * (1 + norm);
  if (exact.numel() == 1) return rounding_of(type) * norm;
  return (exact.to(type).to(at::kDouble) - exact).norm().item<double>();
}

/// Results in `type`, all held in double, at most twice as far from the exact ones as the
/// reference's are, beside the allowance.
inline void expect_as_near(const Tensors& got, const Tensors& by_reference, const Tensors& exact,
                           at::ScalarType type) {
  ASSERT_EQ(got.size(), exact.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const auto error = [&](const Tensors& r) { return (r[i] - exact[i]).norm().item<double>(); };
    EXPECT_LE(error(got), 2 * error(by_reference) + allowance(exact[i], type))
        << (i == 0 ? "output" : "gradient ") << i << " of " << exact[i].sizes() << " in "
        << at::toString(type) << ", norm " << exact[i].norm().item<double>();
  }
}

/// What a gradient can be off that is computed by way of the output rounded to `type`: six times
/// its spread where roundings have random signs. `gradient` gives it, from the gradient of the
/// output, as a sum of products of the two; all in double.
inline double rounding_by_output(const std::function<at::Tensor(const at::Tensor&)>& gradient,
                                 const at::Tensor& output, const at::Tensor& output_gradient,
                                 at::ScalarType type) {
  constexpr int kDraws = 16;
  const auto part = ((output.to(type).to(at::kDouble) - output) / output).nan_to_num();
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const auto signs = at::randint(0, 2, output.sizes(), output.options()) * 2 - 1;
    squares += gradient(output_gradient * part * signs).square().sum().item<double>();
  }
  return 6 * std::sqrt(squares / kDraws);
}

/// The output and the gradients of a run, and those of gradients that it has, in double on the CPU.
inline Tensors results_of(const OpRun& run) {
  Tensors results = {run.output.detach()};
  results.insert(results.end(), run.gradients.begin(), run.gradients.end());
  results.insert(results.end(), run.second.begin(), run.second.end());
  for (auto& result : results) result = result.cpu().to(at::kDouble);
  return results;
}

/// In this type and on this device the op's output and gradients are as near the exact ones as
/// expect_as_near asks.
inline void expect_as_good_as_reference(const Op& op, const Op& reference, const Tensors& inputs,
                                        at::ScalarType type,
                                        const at::Device& device = at::Device(at::kCPU)) {
  Tensors low, rounded;
  for (const auto& input : inputs) {
    const bool floats = input.defined() && input.is_floating_point();
    rounded.push_back(floats ? input.to(type) : input);
    low.push_back(input.defined() ? rounded.back().to(device) : input);
  }
  const auto run = run_op(op, low, type, false);
  EXPECT_EQ(run.output.scalar_type(), type);
  expect_as_near(results_of(run), results_of(run_op(reference, low, type, false)),
                 results_of(run_op(reference, rounded, at::kDouble, false, type)), type);
}

/// The same in float32, with the gradients of the first gradients' squares.
inline void expect_second_order_as_good_as_reference(const Op& op, const Op& reference,
                                                     const Tensors& inputs,
                                                     const at::Device& device) {
  Tensors there;
  for (const auto& input : inputs) there.push_back(input.to(device));
  const auto run = [&](const Op& which, const Tensors& given, at::ScalarType as) {
    return results_of(run_op(which, given, as, /*second_order=*/true, at::kFloat));
  };
  expect_as_near(run(op, there, at::kFloat), run(reference, there, at::kFloat),
                 run(reference, inputs, at::kDouble), at::kFloat);
}

}  // namespace x_transformers
