// Hyper-connections (arXiv:2409.19606): several residual streams of each token. On CUDA each end of
// one is a kernel; all else runs plain ATen calls.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

struct HyperConnectionWeights {
  at::Tensor gain;                       ///< [dim], of the layer norm of each stream
  at::Tensor alpha_fn;                   ///< [dim, views + streams]
  at::Tensor alpha_scale, static_alpha;  ///< [], [streams, views + streams]
  at::Tensor beta_fn, beta_scale;        ///< [dim], []
  at::Tensor static_beta;                ///< [streams]
};

/// What a layer gets of the streams, and what joins its output to them.
struct HyperWidth {
  at::Tensor input;  ///< [views, b, n, dim], the streams weighted by the token
  at::Tensor sum;    ///< [b, n, dim], of the streams
  at::Tensor beta;   ///< [b, n, streams], weights of the layer's output; float32 by the kernel
};

/// Streams folded into the batch [b * streams, n, dim]. Weights that would mix the streams with one
/// another are 1, whatever the last columns of alpha_fn and static_alpha hold, as in Python, where
/// Sinkhorn's normalisation runs over an axis of size one: their gradient is 0.
HyperWidth hyper_width(const at::Tensor& streams, const HyperConnectionWeights& weights,
                       int64_t views);

/// beta_j * out + sum for each stream j, folded into the batch as those of hyper_width.
at::Tensor hyper_depth(const at::Tensor& out, const at::Tensor& sum, const at::Tensor& beta);

/// The same by the engine of this name. Throws InputError with the reasons where it cannot run.
HyperWidth hyper_width_on(const std::string& engine, const at::Tensor& streams,
                          const HyperConnectionWeights& weights, int64_t views);
at::Tensor hyper_depth_on(const std::string& engine, const at::Tensor& out, const at::Tensor& sum,
                          const at::Tensor& beta);
/// Their engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_hyper_width(const at::Tensor& streams,
                                              const HyperConnectionWeights& weights, int64_t views);
std::vector<EngineReport> explain_hyper_depth(const at::Tensor& out, const at::Tensor& sum,
                                              const at::Tensor& beta);

}  // namespace x_transformers
