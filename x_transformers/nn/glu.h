// Gated linear units as a module of their own.
#pragma once

#include <torch/nn/module.h>

#include <memory>

#include "x_transformers/nn/activations.h"
#include "x_transformers/nn/glu_options.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

/// A projection, half of which gates the other half (arXiv:2002.05202).
class GLU : public torch::nn::Module {
 public:
  explicit GLU(const GLUOptions& options);
  /// [..., dim_in] -> [..., dim_out]
  at::Tensor forward(const at::Tensor& x);

 private:
  std::shared_ptr<ActivationModule> act_;
  Linear proj_{nullptr};
  at::Tensor mult_bias_;
};

}  // namespace x_transformers
