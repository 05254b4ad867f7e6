#include "x_transformers/core/format.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>

namespace x_transformers {
namespace {

/// `value` below 1000 with up to three digits, before one of `units`.
std::string format_scaled(double value, const std::array<const char*, 6>& units) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  const double size = std::abs(value);
  size_t unit = 0;
  double scale = 1;
  // 999.5 and more would be rounded to a fourth digit.
  while (size / scale >= 999.5 && unit + 1 < units.size()) {
    scale *= 1000;
    ++unit;
  }
  const double scaled = value / scale;
  const bool whole = std::abs(scaled) >= 99.95 || (unit == 0 && scaled == std::floor(scaled));
  return fmt::format("{:.{}f}{}", scaled, whole ? 0 : 1, units[unit]);
}

}  // namespace

std::string format_count(double value) {
  return format_scaled(value, {"", "k", "M", "G", "T", "P"});
}

std::string noun_of(int64_t count, std::string_view noun) {
  if (count == 1) return std::string(noun);
  return fmt::format("{}{}", noun, noun.ends_with('s') ? "es" : "s");
}

std::string how_many(int64_t count, std::string_view noun) {
  return fmt::format("{} {}", count, noun_of(count, noun));
}

std::string format_bytes(int64_t bytes) {
  return format_scaled(static_cast<double>(bytes), {" B", " kB", " MB", " GB", " TB", " PB"});
}

}  // namespace x_transformers
