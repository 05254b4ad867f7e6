// Parameters of linear layers of a few rows on CUDA, as in decoding, with what stands before and
// after them.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/activation.h"
#include "x_transformers/kernels/element.h"
#include "x_transformers/kernels/norm.h"
#include "x_transformers/kernels/quantized.h"

namespace x_transformers::kernels {

/// The most rows of x, and of one of 16 bits; and the most bytes of such rows that are normalised.
inline constexpr int64_t kMaxFewCudaRows = 4, kMaxFewCudaRowsOf16Bits = 16;
inline constexpr int64_t kMaxFewCudaBytesNormalised = int64_t{96} * 1024;

/// A norm of the rows of x (norm.h). The gain is dense [dim], or there is none.
struct FewRowsNorm {
  enum class Kind { none, layer, l2 };
  Kind kind = Kind::none;
  NormGain gain;
  float epsilon = 0, scale = 1;
};

/// out = act(norm(x) weight^T + bias) + residual for up to three layers of one x [rows, dim].
/// Everything is dense and of one type; dim divides into vectors of 16 bytes, to which x, the gain
/// and the weights are aligned. What goes beyond out = x weight^T + bias is for 16 bits only. The
/// normalised rows are rounded to them.
struct FewRowsOfLayers {
  struct Layer {
    const void* weight = nullptr;  ///< [dim_out, dim], or quantized rows
    const void* bias = nullptr;    ///< [dim_out]; nullptr: none
    void* out = nullptr;           ///< [rows, dim_out], gated [rows, dim_out / 2]
    int64_t dim_out = 0;
  };
  static constexpr int kMaxLayers = 3;

  const void* x = nullptr;
  Element element = Element::float32;
  int64_t rows = 0;
  int64_t dim = 0;
  /// Of weights in quantized rows (QuantizedRow), with x of 16 bits: 8 or 4, and the bytes of a
  /// row; 0: they are as x.
  int weight_bits = 0;
  int64_t weight_row_bytes = 0;
  Layer layers[kMaxLayers];
  int count = 1;

  FewRowsNorm norm;
  ActivationKind activation = ActivationKind::identity;
  bool gated = false;  ///< out = y1 * act(y2) with the halves of y
  /// Whether weights, biases and gain were written before the kernel that wrote x began, so that
  /// they can be read before that one is over.
  bool weights_are_old = false;
  const void* residual = nullptr;  ///< like the out of the only layer; nullptr: none
};

}  // namespace x_transformers::kernels
