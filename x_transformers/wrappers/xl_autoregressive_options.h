// Options of XLAutoregressiveWrapper.
#pragma once

#include <cstdint>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/ignored_target.h"

namespace x_transformers {

/// Python's arguments beside the net.
struct XLAutoregressiveWrapperOptions {
  /// targets of this value do not count in the loss
  int64_t ignore_index = kIgnoredTarget;
  /// token that stands where there is none
  int64_t pad_value = 0;
  /// Whose numbers generation has beyond the first segment.
  Compat compat = {};

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("ignore_index", ignore_index, "targets of this value do not count in the loss");
    v.free("pad_value", pad_value, "token that stands where there is none");
  }
};

}  // namespace x_transformers
