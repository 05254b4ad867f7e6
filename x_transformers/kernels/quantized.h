// How the weight of a linear layer lies in memory where it is quantized: groups of 32 features of
// one output share a scale, and a number is its integer times that.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// A row, of one output, has the integers of its features, `bits` each, then a bfloat16 scale for
/// each group, then what is missing to 16 bytes. Integers of 8 bits are signed bytes, -127 to 127;
/// of 4 bits -8 to 7 plus 8, two to a byte, the first in the lower half.
struct QuantizedRow {
  static constexpr int64_t kGroup = 32;  ///< features

  int bits = 8;     ///< 8 or 4
  int64_t dim = 0;  ///< features, whole groups

  constexpr int64_t groups() const { return dim / kGroup; }
  /// Where the scales begin.
  constexpr int64_t scales() const { return dim * bits / 8; }
  constexpr int64_t bytes() const { return (scales() + groups() * 2 + 15) / 16 * 16; }
};

}  // namespace x_transformers::kernels
