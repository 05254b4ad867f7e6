// Mixes of the outputs of several layers, weighted by the token. On CUDA a kernel reads each layer
// once; all else runs plain ATen calls.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

struct MixedLayers {
  at::Tensor mixed;                ///< [views, b, n, dim]
  std::vector<at::Tensor> layers;  ///< as they were given
};

/// mixed[v] = sum over l of w[..., v, l] * layers[l], with layers [b, n, dim] and logits [b, n,
/// views, layers]; w is the softmax of the logits over l, or their positive part. Who gives the
/// returned layers to the next mix, in place of those that it gave to this one, has the gradient of
/// each layer summed up where it lies. Throws InputError where shapes do not fit.
MixedLayers mix_layers(const std::vector<at::Tensor>& layers, const at::Tensor& logits,
                       bool use_softmax = true);

/// The mix by the engine of this name. Throws InputError with the reasons where it cannot run.
at::Tensor mix_layers_on(const std::string& engine, const std::vector<at::Tensor>& layers,
                         const at::Tensor& logits, bool use_softmax = true);
/// The engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_mix_layers(const std::vector<at::Tensor>& layers,
                                             const at::Tensor& logits);

}  // namespace x_transformers
