// Attention by squared relus on the CPU in float32, one sequence or group at a time: what
// gated_attend and group_attend share. Nothing here records gradients.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// relu(scale * q k^T + bias_scale * bias)^2 v
struct SquaredRelu {
  at::Tensor q, k, v;  ///< [i, d], [j, d], [j, e], rows dense
  double scale = 1.0;
  at::Tensor bias;  ///< [i, j], or by distance [at least 2j - 1], where the entry of distance 0
                    ///< (key - query) is `origin`; undefined: none
  int64_t origin = 0;
  double bias_scale = 1.0;
  bool causal = false;  ///< queries stand at the last of the keys, and see no later ones
};

/// Where gradients are written to; that of the bias (undefined: not wanted) is added to.
struct SquaredReluGradients {
  at::Tensor q, k, v, bias;
};

/// Writes out [i, e], and to relus [i, j], where that is defined, what the backward pass needs.
void squared_relu_forward(const SquaredRelu& call, const at::Tensor& relus, const at::Tensor& out);
void squared_relu_backward(const SquaredRelu& call, const at::Tensor& relus,
                           const at::Tensor& out_grad, const SquaredReluGradients& gradients);

/// Calls body(part) for 0 to parts - 1, without autograd: side by side where that keeps all threads
/// busy, else one after the other, so that the products within them run in parallel.
template <class Body>
void for_each_part(int64_t parts, const Body& body) {
  const int64_t threads = at::get_num_threads();
  const auto run = [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    for (int64_t part = begin; part < end; ++part) body(part);
  };
  if (parts % threads == 0 || parts >= 2 * threads) {
    at::parallel_for(0, parts, 1, run);
  } else {
    run(0, parts);
  }
}

}  // namespace x_transformers
