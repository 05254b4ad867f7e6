#include "x_transformers/nn/concat_combine.h"

#include <ATen/ATen.h>

#include "x_transformers/core/rules.h"

namespace x_transformers {

ConcatCombine::ConcatCombine(const ConcatCombineOptions& options) {
  require_size(options.dim, "dim");
  combine_ = register_module("combine", linear_no_bias(options.dim * 2, options.dim));
}

at::Tensor ConcatCombine::forward(const at::Tensor& x, const at::Tensor& skip) {
  return combine_->forward(at::cat({skip, x}, -1));
}

}  // namespace x_transformers
