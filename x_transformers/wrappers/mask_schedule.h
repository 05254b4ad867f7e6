// How much of a sequence is masked when.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <functional>
#include <memory>

#include "x_transformers/wrappers/nonautoregressive_options.h"

namespace x_transformers {

/// The part of the tokens that is masked at a time from 0, all, to 1, none.
class MaskSchedule {
 public:
  /// InputError for an unknown name, and for a function whose values are not from 0 to 1 or do not
  /// end at 0.
  explicit MaskSchedule(const MaskScheduleSpec& spec, const Compat& compat = {});

  /// Times [...] float in [0, 1] -> values of the same shape.
  at::Tensor operator()(const at::Tensor& times) const { return function_(times); }
  /// The values' derivatives by time.
  at::Tensor slope(const at::Tensor& times) const { return slope_(times); }
  /// The module that a name stood for; null: it has none.
  const std::shared_ptr<torch::nn::Module>& module() const { return module_; }

 private:
  using Function = std::function<at::Tensor(const at::Tensor&)>;
  Function function_, slope_;
  std::shared_ptr<torch::nn::Module> module_;
};

}  // namespace x_transformers
