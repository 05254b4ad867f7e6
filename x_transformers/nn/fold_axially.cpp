#include "x_transformers/nn/fold_axially.h"

#include <ATen/ATen.h>

#include "x_transformers/core/rules.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {
namespace {

/// [b, n, ...] -> [b * parts, ceil(n / parts), ...]
at::Tensor fold(const at::Tensor& t, int64_t parts) {
  auto sizes = t.sizes().vec();
  sizes[1] = (parts - t.size(1) % parts) % parts;
  const auto padded = at::cat({t, at::zeros(sizes, t.options())}, 1);
  return padded.unflatten(1, {-1, parts}).transpose(1, 2).flatten(0, 1);
}

at::Tensor unfold(const at::Tensor& t, int64_t parts, int64_t length) {
  return t.unflatten(0, {-1, parts}).transpose(1, 2).flatten(1, 2).narrow(1, 0, length);
}

}  // namespace

CallableModule fold_axially(int64_t axial_dim, const CallableModule& fn) {
  require_size(axial_dim, "axial_dim");
  auto module = make_scope();
  module->register_module("fn", fn.module);
  auto folded = fn;
  folded.module = module;
  if (axial_dim == 1) return folded;
  folded.call = [axial_dim, fn](const at::Tensor& x, const CallableModule::NamedTensors& given) {
    auto arguments = given;
    for (auto& [name, tensor] : arguments) {
      const bool is_sequence =
          tensor.dim() >= 2 && tensor.size(0) == x.size(0) && tensor.size(1) == x.size(1);
      if (is_sequence) tensor = fold(tensor, axial_dim);
    }
    auto result = fn.call(fold(x, axial_dim), arguments);
    result.out = unfold(result.out, axial_dim, x.size(1));
    return result;
  };
  return folded;
}

}  // namespace x_transformers
