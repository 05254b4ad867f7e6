// Parameters of hyper-connections on CUDA: several residual streams of each token, mixed into what
// a layer reads, and the layer's output joined to all of them.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

inline constexpr int64_t kMaxHyperFeatures = 2048, kMaxHyperStreams = 16;

/// What a hyper-connection learns, dense and of the type of the streams.
struct HyperConnectionWeights {
  const void* gain = nullptr;          ///< [dim], of the layer norm of each stream
  const void* alpha_fn = nullptr;      ///< [dim, views + streams]; only the views are read
  const void* alpha_scale = nullptr;   ///< one number
  const void* static_alpha = nullptr;  ///< [streams, views + streams]; only the views are read
  const void* beta_fn = nullptr;       ///< [dim]
  const void* beta_scale = nullptr;    ///< one number
  const void* static_beta = nullptr;   ///< [streams]
};

/// Their gradients, of the same shapes and type; of what is not read, 0.
struct HyperConnectionGrads {
  void *gain = nullptr, *alpha_fn = nullptr, *alpha_scale = nullptr, *static_alpha = nullptr;
  void *beta_fn = nullptr, *beta_scale = nullptr, *static_beta = nullptr;
};

/// With n_j the layer norm of stream s_j: input_t = sum over j of sigmoid(n_j . alpha_fn_t *
/// alpha_scale + static_alpha_jt) s_j, sum = the sum of s_j, beta_j = 2 sigmoid(2 sigmoid(n_j .
/// beta_fn) * beta_scale + static_beta_j). A token is an entry's position; 1 or 3 views.
struct HyperWidth {
  const void* streams = nullptr;  ///< dense [batch, streams, length, dim]
  HyperConnectionWeights weights;
  void* input = nullptr;        ///< dense [views, batch, length, dim]
  void* sum = nullptr;          ///< dense [batch, length, dim]
  float* beta = nullptr;        ///< dense [batch, length, streams]
  float* statistics = nullptr;  ///< for the backward, dense [batch, length, streams, views + 3]
  Element element = Element::float32;
  int64_t batch = 0, streams_count = 0, length = 0, dim = 0, views = 1;
};

/// Gradients of outputs may be nullptr for 0.
struct HyperWidthBackward {
  const void* streams = nullptr;
  HyperConnectionWeights weights;
  const float* statistics = nullptr;
  const void *input_grad = nullptr, *sum_grad = nullptr;
  const float* beta_grad = nullptr;
  void* streams_grad = nullptr;
  /// Dense [chunks, columns] sums on the way to the gradients of the weights, chunks and columns as
  /// hyper_width_chunks and hyper_width_columns say.
  float* partial = nullptr;
  HyperConnectionGrads grads;
  Element element = Element::float32;
  int64_t batch = 0, streams_count = 0, length = 0, dim = 0, views = 1;
};

/// streams_j = beta_j * out + sum.
struct HyperDepth {
  const void *out = nullptr, *sum = nullptr;  ///< dense [batch, length, dim]
  const float* beta = nullptr;                ///< dense [batch, length, streams]
  void* streams = nullptr;                    ///< dense [batch, streams, length, dim]
  Element element = Element::float32;
  int64_t batch = 0, streams_count = 0, length = 0, dim = 0;
};

struct HyperDepthBackward {
  const void *streams_grad = nullptr, *out = nullptr;
  const float* beta = nullptr;
  void *out_grad = nullptr, *sum_grad = nullptr;
  float* beta_grad = nullptr;
  Element element = Element::float32;
  int64_t batch = 0, streams_count = 0, length = 0, dim = 0;
};

}  // namespace x_transformers::kernels
