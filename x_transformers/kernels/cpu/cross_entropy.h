// Cross entropy of logits against class indices on the CPU.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// Dense logits [rows, classes]. Writes one loss and one log-sum-exp a row; the loss of an ignored
/// row is 0.
struct CrossEntropyForward {
  const void* logits = nullptr;
  Element element = Element::float32;
  const int64_t* target = nullptr;
  int64_t ignore_index = -100;
  float* losses = nullptr;
  float* log_sum_exp = nullptr;
  int64_t rows = 0;
  int64_t classes = 0;
};

/// logits_grad = (softmax(logits) - one_hot(target)) * scale, with a scale for each row or one for
/// all; 0 in ignored rows.
struct CrossEntropyBackward {
  const void* logits = nullptr;
  void* logits_grad = nullptr;
  Element element = Element::float32;
  const int64_t* target = nullptr;
  int64_t ignore_index = -100;
  const float* log_sum_exp = nullptr;
  const float* row_scale = nullptr;  ///< [rows], nullptr: `scale` for all
  float scale = 1;
  int64_t rows = 0;
  int64_t classes = 0;
};

/// The targets must be ignore_index or in 0..classes-1.
void cross_entropy_forward(const CrossEntropyForward& params);
void cross_entropy_backward(const CrossEntropyBackward& params);

}  // namespace x_transformers::kernels
