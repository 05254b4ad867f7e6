#include "x_transformers/wrappers/mask_schedule.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <numbers>

#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/nn/callable_module.h"

namespace x_transformers {
namespace {

using Function = std::function<at::Tensor(const at::Tensor&)>;

/// The derivative of a function that treats times one by one, by autograd.
Function derivative(Function function) {
  return [function = std::move(function)](const at::Tensor& times) {
    const at::AutoGradMode records(true);
    const auto own = times.detach().requires_grad_();
    const auto values = function(own);
    if (!values.requires_grad()) return at::zeros_like(times);
    return torch::autograd::grad({values.sum()}, {own})[0];
  };
}

/// Looks at a function from outside: where it is not what it should be, training learns nothing or
/// generation leaves masks.
void check(const Function& function) {
  const at::NoGradGuard no_grad;
  constexpr int64_t kTimes = 9;
  const auto times = at::linspace(0, 1, kTimes);
  if (times.is_meta()) return;  // a dry run
  const auto values = function(times);
  require(values.defined() && values.sizes() == times.sizes() && values.is_floating_point(),
          at("schedule"), "expected a value for each time");
  constexpr double kNone = 1e-6;
  require(values.isfinite().all().item<bool>() && values.min().item<double>() >= -kNone &&
              values.max().item<double>() <= 1 + kNone,
          at("schedule"), "expected values from 0 to 1 for times from 0 to 1");
  const auto end = values[kTimes - 1].item<double>();
  expect(end <= kNone, at("schedule"), end, "0 at time 1, where nothing is masked");
}

}  // namespace

MaskSchedule::MaskSchedule(const MaskScheduleSpec& spec, const Compat& compat) {
  constexpr double kQuarterTurn = std::numbers::pi / 2;
  if (!spec.function && spec.type == "linear") {
    function_ = [](const at::Tensor& times) { return 1 - times; };
    slope_ = [](const at::Tensor& times) { return at::full_like(times, -1); };
  } else if (!spec.function && spec.type == "cosine") {
    function_ = [](const at::Tensor& times) { return (times * std::numbers::pi / 2).cos(); };
    slope_ = [](const at::Tensor& times) {
      return (times * std::numbers::pi / 2).sin() * -kQuarterTurn;
    };
  } else {
    function_ = spec.function;
    if (!function_) {
      const auto callable = within("schedule", [&] { return make_callable(spec, compat); });
      function_ = callable;
      module_ = callable.module;
    }
    check(function_);
    slope_ = derivative(function_);
  }
}

}  // namespace x_transformers
