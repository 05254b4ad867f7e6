// Options of Adafactor.
#pragma once

#include <optional>

#include "x_transformers/core/options.h"

namespace x_transformers {

struct AdafactorOptions {
  /// exponent of the step in the weight of a new gradient: step ** beta2_decay (arXiv:1804.04235)
  double beta2_decay = -0.8;
  /// minimum mean square of a gradient; default: the spacing of numbers of the weights' type at 1
  std::optional<double> eps1 = std::nullopt;
  /// minimum root mean square of a weight, in whose units the rate is
  double eps2 = 1e-3;
  /// largest root mean square of an update
  double d = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v("beta2_decay", beta2_decay,
      "exponent of the step in the weight of a new gradient: step ** beta2_decay",
      "arXiv:1804.04235");
    v("eps1", eps1,
      "minimum mean square of a gradient; default: the spacing of numbers of the weights' type at "
      "1");
    v("eps2", eps2, "minimum root mean square of a weight, in whose units the rate is");
    v("d", d, "largest root mean square of an update");
  }
  bool operator==(const AdafactorOptions&) const = default;
};

/// Throws InputError for values that make no sense.
void validate(const AdafactorOptions& options);

}  // namespace x_transformers
