// Parameters of rotary position embedding, of every device: feature pairs (2i, 2i + 1) rotated by
// an angle each. Memory is of the device whose kernel gets them.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// x and y are [batch, heads, length, dim] with the given strides (in elements) of the first three;
/// the last is dense. The tables are dense [table_batch, length, rotated / 2], with
/// `table_batch_stride` 0 where all batch entries share one. Features from `rotated` on are copied.
struct RotaryParams {
  const void* x = nullptr;
  void* y = nullptr;
  Element element = Element::float32;
  int64_t x_strides[3] = {0, 0, 0};
  int64_t y_strides[3] = {0, 0, 0};
  const float* cos = nullptr;
  const float* sin = nullptr;
  const float* scale = nullptr;  ///< factor of the rotated pair, nullptr: 1
  int64_t table_batch_stride = 0;
  bool backwards = false;      ///< rotate by minus the angle
  bool inverse_scale = false;  ///< divide by `scale`
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t length = 0;
  int64_t dim = 0;
  int64_t rotated = 0;
};

}  // namespace x_transformers::kernels
