// Parameters of normalisation, of every device: layer norm, and division by the l2 norm (RMSNorm,
// ScaleNorm, l2norm). Memory is of the device whose kernel gets them.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// What each feature is multiplied by: weight + offset, or 1 without a weight.
struct NormGain {
  const void* weight = nullptr;  ///< [dim] or, with `is_shared`, one number, of the type of x
  float offset = 0;
  bool is_shared = false;
};

/// x and y are dense [rows, dim]. The kernels write `mean` (layer norm only) and `inverse`, one
/// float a row, which the backward needs; either may be nullptr when there will be none.
struct NormForward {
  const void* x = nullptr;
  void* y = nullptr;
  Element element = Element::float32;
  NormGain gain;
  float* mean = nullptr;     ///< [rows]
  float* inverse = nullptr;  ///< [rows], 1 / std or 1 / norm
  float epsilon = 0;  ///< layer norm: added to the variance; l2 norm: the minimum norm divided by
  float scale = 1;    ///< l2 norm only: factor of the normalised row
  int64_t rows = 0;
  int64_t dim = 0;
};

struct NormBackward {
  const void* x = nullptr;
  const void* y_grad = nullptr;
  /// Added to x_grad, as is what comes from others that read x: of its sizes and type; nullptr:
  /// nothing. On CUDA only.
  const void* other_grad = nullptr;
  void* x_grad = nullptr;
  Element element = Element::float32;
  NormGain gain;
  const float* mean = nullptr;
  const float* inverse = nullptr;
  /// What the device's kernel asks for: so many parts the gradient of weight + offset comes in. 0:
  /// it comes whole.
  int64_t chunks = 0;
  /// Receives these parts, dense [chunks, dim], to be added up by the caller; nullptr when the
  /// gradient is not wanted or comes whole.
  float* weight_grad = nullptr;
  /// Receives the whole gradient, [dim] of the type of x; nullptr when it is not wanted or comes in
  /// parts.
  void* whole_weight_grad = nullptr;
  float epsilon = 0;
  float scale = 1;
  int64_t rows = 0;
  int64_t dim = 0;
};

}  // namespace x_transformers::kernels
