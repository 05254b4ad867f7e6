// Parameters of linear layers of a few rows on CUDA, as in decoding.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// The most rows of x.
inline constexpr int64_t kMostFewCudaRows = 4;

/// out = x weight^T + bias for up to three layers of one x [rows, dim]. Everything is dense and of
/// one type; dim divides into vectors of 16 bytes, to which x and the weights are aligned.
struct FewRowsOfLayers {
  struct Layer {
    const void* weight = nullptr;  ///< [dim_out, dim]
    const void* bias = nullptr;    ///< [dim_out]; nullptr: none
    void* out = nullptr;           ///< [rows, dim_out]
    int64_t dim_out = 0;
  };
  static constexpr int kMostLayers = 3;

  const void* x = nullptr;
  Element element = Element::float32;
  int64_t rows = 0;
  int64_t dim = 0;
  Layer layers[kMostLayers];
  int count = 1;
};

}  // namespace x_transformers::kernels
