// Whole numbers that are written as others, as Python's JSON and people write them.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/json.h"

namespace x_transformers {

/// The integer that 1e3 or 1000.0 means; empty: the number has a fraction, or is so large that
/// doubles are not all integers.
std::optional<int64_t> whole_number(double number);

/// `json` with integers for all numbers within it that are whole, for a reader of options, which
/// takes an integer for any number but no other number for an integer.
Json with_integers(Json json);

}  // namespace x_transformers
