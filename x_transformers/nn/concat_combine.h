// Joining an earlier layer's output, as U-Net skips do.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>

#include "x_transformers/core/options.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

struct ConcatCombineOptions {
  int64_t dim = 0;
  int64_t prev_layer_ind = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v("prev_layer_ind", prev_layer_ind, "the earlier layer whose output is joined in");
  }
};

/// An earlier layer's output and this one, side by side, brought back to `dim` features.
class ConcatCombine : public torch::nn::Module {
 public:
  explicit ConcatCombine(const ConcatCombineOptions& options);
  /// x and skip [batch, seq, dim] -> [batch, seq, dim]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& skip);

 private:
  Linear combine_{nullptr};
};

}  // namespace x_transformers
