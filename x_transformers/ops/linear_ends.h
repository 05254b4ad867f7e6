// A linear layer with what stands before and after it: as one kernel for the few rows of decoding
// on CUDA, where launches cost more than arithmetic.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "x_transformers/ops/activation.h"
#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {

struct LinearEnds {
  std::optional<RowNorm> norm = {};  ///< of x
  Activation activation = Activation::identity;
  bool gated = false;  ///< the activation is that of a gated unit (ops/activation.h)
  /// Whether weight, bias and gamma were written before what writes x began, as parameters are:
  /// they may then be read while x is yet being written.
  bool weights_are_old = false;
  at::Tensor residual = {};  ///< is added to what comes out, and has its sizes; undefined: nothing
};

/// residual + activation(norm(x) weight^T + bias), with weight and bias as of linear. On CUDA a
/// kernel of ours for 16 rows or fewer of 16 bits; of more rows a residual is added within the
/// product (linear_cuda); else one op after the other.
at::Tensor linear_with_ends(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const LinearEnds& ends);

/// As linear_with_ends, by the engine of this name. Throws InputError with the reasons where it
/// cannot run.
at::Tensor linear_with_ends_on(const std::string& engine, const at::Tensor& x,
                               const at::Tensor& weight, const at::Tensor& bias,
                               const LinearEnds& ends);
/// The engines of linear_with_ends in order of preference, each with its reasons against.
std::vector<EngineReport> explain_linear_with_ends(const at::Tensor& x, const at::Tensor& weight,
                                                   const at::Tensor& bias, const LinearEnds& ends);

/// The same made of one op after the other.
at::Tensor linear_with_ends_reference(const at::Tensor& x, const at::Tensor& weight,
                                      const at::Tensor& bias, const LinearEnds& ends);

/// Whether it pays to leave what stands around a branch of x [..., dim] to the branch's own linear
/// layers: there are as few rows as such a kernel takes, on CUDA, and no gradients.
bool takes_ends(const at::Tensor& x);

}  // namespace x_transformers
