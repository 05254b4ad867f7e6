// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace x_transformers {

/// 987, 1.2k, 34.5M, 1.2G: three digits or fewer before a unit of thousands.
std::string format_count(double value);
/// The noun of a number of things: step of 1, steps of 0 and 2. A regular noun.
std::string noun_of(int64_t count, std::string_view noun);
/// 1 step, 20 steps.
std::string how_many(int64_t count, std::string_view noun);
/// 512 B, 1.2 GB: powers of 1000.
std::string format_bytes(int64_t bytes);

}  // namespace x_transformers
