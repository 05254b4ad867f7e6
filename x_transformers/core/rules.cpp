#include "x_transformers/core/rules.h"

#include <fmt/format.h>

#include "x_transformers/core/error.h"

namespace x_transformers {

void require_at_least(int64_t value, int64_t least, const char* name) {
  require(value >= least, fmt::format("{}: expected {} or more, got {}", name, least, value));
}

void require_at_least(const std::optional<int64_t>& value, int64_t least, const char* name) {
  if (value) require_at_least(*value, least, name);
}

void require_positive(int64_t value, const char* name) {
  require(value > 0, fmt::format("{}: expected a positive number, got {}", name, value));
}

void require_positive(const std::optional<int64_t>& value, const char* name) {
  if (value) require_positive(*value, name);
}

void require_positive(double value, const char* name) {
  require(value > 0, fmt::format("{}: expected a positive number, got {}", name, value));
}

void require_fraction(double value, const char* name) {
  require(value >= 0 && value < 1,
          fmt::format("{}: expected a number in [0, 1), got {}", name, value));
}

}  // namespace x_transformers
