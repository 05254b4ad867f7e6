// Attention without a softmax: each score by itself becomes a weight, by the squared relu or the
// laplacian (Transformer Quality in Linear Time, arXiv:2202.10447).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// What makes weights of scores.
enum class GatedAttnFn { relu_squared, laplace };

/// (1 + erf((x - sqrt(1/2)) / (std sqrt 2))) / 2 with std^2 = 1/(4 pi) (arXiv:2209.10655).
at::Tensor laplace_attn_fn(const at::Tensor& x);

/// How gated_attend goes from queries and keys to weights.
struct GatedAttend {
  GatedAttnFn fn = GatedAttnFn::relu_squared;
  double scale = 1.0;    ///< of the products of queries and keys
  at::Tensor bias;       ///< added to the scaled products, [i, j] or [1 or b, i, j]; or undefined
  bool causal = false;   ///< keys after the query, which stands at the last of them, have weight 0
  double dropout = 0.0;  ///< of the weights, as in training
};

/// fn(scale * q k^T + bias) v for q [b, i, d], k [b, j, d] and v [b, j, e] -> [b, i, e]. A key is
/// masked by zeros in v. Throws InputError for shapes that do not fit.
at::Tensor gated_attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const GatedAttend& how);

/// The same, by the engine of this name. Throws InputError with the reasons where it cannot run.
at::Tensor gated_attend_on(const std::string& engine, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const GatedAttend& how);

/// The engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_gated_attend(const at::Tensor& q, const at::Tensor& k,
                                               const at::Tensor& v, const GatedAttend& how);

}  // namespace x_transformers
