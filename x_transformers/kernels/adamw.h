// Parameters of AdamW's update on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// One weight and what belongs to it, dense and in one order.
struct AdamWWeight {
  float* weight = nullptr;
  float* exp_avg = nullptr;
  float* exp_avg_sq = nullptr;
  const void* gradient = nullptr;
  void* copy = nullptr;         ///< receives the new weight; nullptr: there is none
  const float* step = nullptr;  ///< updates, this one among them
  int64_t size = 0;
};

struct AdamWStep {
  const AdamWWeight* weights = nullptr;  ///< on the host
  int64_t count = 0;
  Element gradient = Element::float32;
  Element copy = Element::float32;
  const float* learning_rate = nullptr;  ///< on the device
  double beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
  const float* divisor = nullptr;  ///< of gradients, on the device; nullptr: 1
  const float* skipped = nullptr;  ///< on the device: where it is 1 nothing changes; nullptr: 0
};

}  // namespace x_transformers::kernels
