// Normalisation of the last dimension. CPU float32 and bfloat16 run fused kernels, and so do layer
// norm, RMSNorm and the l2 norm on CUDA; all else runs plain ATen calls.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

inline constexpr double kLayerNormEpsilon = 1e-5;
inline constexpr double kMinNorm = 1e-12;  ///< of rows: a smaller one counts as this

/// (x - mean) / sqrt(var + 1e-5) * (gamma + gamma_offset) over the last dimension of x [..., dim],
/// without bias (arXiv:1607.06450). gamma is [dim], or undefined for none (the offset then plays no
/// part).
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& gamma = {}, double gamma_offset = 0.0);

/// x / max(|x|, 1e-12) * sqrt(dim) * (gamma + gamma_offset) over the last dimension of x [...,
/// dim]. gamma is [dim] (RMSNorm, arXiv:1910.07467), [1] (ScaleNorm, arXiv:1910.05895), undefined
/// (arXiv:2307.14995) or any shape that broadcasts to x, such as a gain for each head [heads, 1,
/// dim].
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gamma = {}, double gamma_offset = 0.0);

/// One of the two, for what normalises on its way.
struct RowNorm {
  enum class Kind { layer, rms };
  Kind kind = Kind::layer;
  at::Tensor gamma;
  double gamma_offset = 0.0;
};
at::Tensor normalised(const at::Tensor& x, const RowNorm& norm);

/// normalised(x), and x itself for what else reads it, such as a residual connection. On CUDA the
/// gradients that come back by both meet within the norm's kernel, which saves a pass over them.
struct NormedBeside {
  at::Tensor normed, x;
};
NormedBeside norm_beside(const at::Tensor& x, const RowNorm& norm);

/// x / max(|x| / sqrt(dim), eps) * gamma over the last dimension of x [..., dim], with gamma [1]:
/// FLASH-pytorch's ScaleNorm. The gradient by x is that of a constant norm below eps.
at::Tensor scale_norm(const at::Tensor& x, const at::Tensor& gamma, double eps);

/// x / max(|x|, 1e-12), separately in each of `groups` equal parts of the last dimension.
/// Throws InputError where that dimension cannot be split so.
at::Tensor l2norm(const at::Tensor& x, int64_t groups = 1);

/// As layer_norm, rms_norm and l2norm, by the engine of this name. Throws InputError with the
/// reasons where it cannot run.
at::Tensor layer_norm_on(const std::string& engine, const at::Tensor& x,
                         const at::Tensor& gamma = {}, double gamma_offset = 0.0);
at::Tensor rms_norm_on(const std::string& engine, const at::Tensor& x, const at::Tensor& gamma = {},
                       double gamma_offset = 0.0);
at::Tensor l2norm_on(const std::string& engine, const at::Tensor& x, int64_t groups = 1);
/// Their engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_layer_norm(const at::Tensor& x, const at::Tensor& gamma = {});
std::vector<EngineReport> explain_rms_norm(const at::Tensor& x, const at::Tensor& gamma = {});
std::vector<EngineReport> explain_l2norm(const at::Tensor& x, int64_t groups = 1);

/// Why the fused CPU kernels cannot run a norm of x with this gamma; empty: they can.
std::string norm_unsupported(const at::Tensor& x, const at::Tensor& gamma = {});

/// The same functions made of ATen calls, for every device, dtype and order of gradient.
at::Tensor layer_norm_reference(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset);
at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset);
at::Tensor scale_norm_reference(const at::Tensor& x, const at::Tensor& gamma, double eps);
at::Tensor l2norm_reference(const at::Tensor& x, int64_t groups);

}  // namespace x_transformers
