// Options of AdamW.
#pragma once

#include "x_transformers/core/options.h"

namespace x_transformers {

struct AdamWOptions {
  /// peak learning rate
  double learning_rate = 3e-4;
  /// decay of the mean of the gradients (arXiv:1412.6980)
  double beta1 = 0.9;
  /// decay of the mean of their squares
  double beta2 = 0.95;
  /// added to the root of the mean square
  double eps = 1e-8;
  /// decoupled weight decay, of tensors with two or more dimensions only (arXiv:1711.05101)
  double weight_decay = 0.1;

  template <class Visitor>
  void fields(Visitor& v) {
    v("learning_rate", learning_rate, "peak learning rate");
    v("beta1", beta1, "decay of the mean of the gradients", "arXiv:1412.6980");
    v("beta2", beta2, "decay of the mean of their squares");
    v("eps", eps, "added to the root of the mean square");
    v("weight_decay", weight_decay,
      "decoupled weight decay, of tensors with two or more dimensions only", "arXiv:1711.05101");
  }
};

/// Throws InputError for values that make no sense.
void validate(const AdamWOptions& options);

}  // namespace x_transformers
