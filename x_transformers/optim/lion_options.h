// Options of Lion.
#pragma once

#include "x_transformers/core/options.h"

namespace x_transformers {

struct LionOptions {
  /// weight of the momentum beside the gradient in an update (arXiv:2302.06675)
  double beta1 = 0.9;
  /// decay of the momentum
  double beta2 = 0.99;

  template <class Visitor>
  void fields(Visitor& v) {
    v("beta1", beta1, "weight of the momentum beside the gradient in an update",
      "arXiv:2302.06675");
    v("beta2", beta2, "decay of the momentum");
  }
  bool operator==(const LionOptions&) const = default;
};

/// Throws InputError for values that make no sense.
void validate(const LionOptions& options);

}  // namespace x_transformers
