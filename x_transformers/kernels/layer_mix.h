// Parameters of mixing the outputs of layers by weights of each row, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

inline constexpr int64_t kMaxMixedLayers = 128;

/// out[v, r] = sum over l of w[r, v, l] * layers[l][r], where w is the softmax over l of the
/// logits, or their positive part. Each layer is dense [rows, dim]; logits are dense [rows, views,
/// count].
struct LayerMix {
  const void* layers[kMaxMixedLayers] = {};
  const void* logits = nullptr;
  void* out = nullptr;  ///< dense [views, rows, dim]
  Element element = Element::float32;
  bool uses_softmax = true;
  int64_t count = 0, views = 1, rows = 0, dim = 0;
};

/// `layer_grads[l]` receives known_grads[l], or nothing where that is nullptr, plus what the
/// gradient of `out` makes of the layer. The two may be one memory.
struct LayerMixBackward {
  const void* layers[kMaxMixedLayers] = {};
  const void* known_grads[kMaxMixedLayers] = {};
  void* layer_grads[kMaxMixedLayers] = {};
  int64_t first_wanted = 0;  ///< layers before it get no gradient
  const void* logits = nullptr;
  const void* out_grad = nullptr;  ///< dense [views, rows, dim]
  void* logits_grad = nullptr;     ///< dense [rows, views, count]
  Element element = Element::float32;
  bool uses_softmax = true;
  int64_t count = 0, views = 1, rows = 0, dim = 0;
};

/// What the gradients of the outputs of several mixes make of layers that all of them have read:
/// layer_grads[l] receives known_grads[l], or nothing where that is nullptr, plus the sum of w[r,
/// v, l] * out_grad[v, r] over the mixes and their views. The two may be one memory.
struct LayerMixGather {
  struct Mix {
    const void* logits = nullptr;    ///< dense [rows, views, count], of all layers that it has read
    const void* out_grad = nullptr;  ///< dense [views, rows, dim]
    int64_t count = 0, views = 1;
  };
  static constexpr int64_t kMaxMixes = 4, kMaxViews = 8;

  const void* known_grads[kMaxMixedLayers] = {};
  void* layer_grads[kMaxMixedLayers] = {};
  Mix mixes[kMaxMixes];
  int64_t mixes_count = 0;
  Element element = Element::float32;
  bool uses_softmax = true;
  int64_t count = 0;  ///< layers that get gradients, the first ones
  int64_t rows = 0, dim = 0;
};

}  // namespace x_transformers::kernels
