// Parameters of cross entropy on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// Rows of logits against class indices: the losses, their gradient, or both in one pass. Rows
/// begin `stride` numbers apart. A target that is neither ignore_index nor a class gives a loss of
/// NaN.
struct CrossEntropyPass {
  const void* logits = nullptr;  ///< [rows, classes]
  Element element = Element::float32;
  int64_t rows = 0;
  int64_t classes = 0;
  int64_t stride = 0;
  const int64_t* target = nullptr;  ///< [rows]
  int64_t ignore_index = -100;

  float* losses = nullptr;       ///< [rows], 0 for ignored rows; nullptr: not wanted
  float* log_sum_exp = nullptr;  ///< [rows], read where it `is_known`, written else; or nullptr
  bool is_known = false;

  /// (softmax(logits) - one_hot(target)) * scale, 0 in ignored rows and in the numbers between
  /// classes and stride. May be the logits; nullptr: not wanted.
  void* logits_grad = nullptr;
  const float* scale = nullptr;  ///< one number, or one a row
  bool scale_of_row = false;
};

}  // namespace x_transformers::kernels
