// Joining an earlier layer's output, as U-Net skips do.
#pragma once

#include <torch/nn/module.h>

#include "x_transformers/nn/block_options.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

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
