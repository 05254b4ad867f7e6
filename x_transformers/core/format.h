// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace x_transformers {

/// 987, 1.2k, 34.5M, 1.2G: three digits or fewer before a unit of thousands.
std::string format_count(double value);
/// 512 B, 1.2 GB: powers of 1000.
std::string format_bytes(int64_t bytes);

}  // namespace x_transformers
