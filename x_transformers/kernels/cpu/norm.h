// Normalisation of rows on the CPU: layer norm, and division by the l2 norm (RMSNorm, ScaleNorm,
// l2norm).
#pragma once

#include <cstdint>

#include "x_transformers/kernels/cpu/element.h"

namespace x_transformers::kernels {

/// x and y are dense [rows, dim]. The kernels write `mean` (layer norm only) and `inverse`, one
/// float a row, which the backward needs; either may be nullptr when there will be none.
struct NormForward {
  const void* x = nullptr;
  void* y = nullptr;
  Element element = Element::float32;
  const float* weight = nullptr;  ///< [dim], nullptr: all ones
  float* mean = nullptr;          ///< [rows]
  float* inverse = nullptr;       ///< [rows], 1 / std or 1 / norm
  float epsilon = 0;  ///< layer norm: added to the variance; l2 norm: the least norm divided by
  float scale = 1;    ///< l2 norm only: factor of the normalised row
  int64_t rows = 0;
  int64_t dim = 0;
};

/// `weight_grad` receives dense [chunks, dim] partial sums, chunks = row_chunks(rows), to be added
/// up by the caller; nullptr when it is not wanted.
struct NormBackward {
  const void* x = nullptr;
  const void* y_grad = nullptr;
  void* x_grad = nullptr;
  Element element = Element::float32;
  const float* weight = nullptr;
  const float* mean = nullptr;
  const float* inverse = nullptr;
  float* weight_grad = nullptr;
  float epsilon = 0;
  float scale = 1;
  int64_t rows = 0;
  int64_t dim = 0;
};

/// y = (x - mean) / sqrt(var + epsilon) * weight
void layer_norm_forward(const NormForward& params);
void layer_norm_backward(const NormBackward& params);

/// y = x / max(|x|, epsilon) * scale * weight
void l2_norm_forward(const NormForward& params);
void l2_norm_backward(const NormBackward& params);

}  // namespace x_transformers::kernels
