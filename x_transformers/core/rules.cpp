#include "x_transformers/core/rules.h"

#include <fmt/format.h>

namespace x_transformers {

void require_at_least(int64_t value, int64_t least, const char* name) {
  require(value >= least, fmt::format("{}: expected {} or more, got {}", name, least, value));
}

void require_at_least(const std::optional<int64_t>& value, int64_t least, const char* name) {
  if (value) require_at_least(*value, least, name);
}

void require_at_most(int64_t value, int64_t most, const char* name) {
  require(value <= most, fmt::format("{}: expected {} or less, got {}", name, most, value));
}

void require_at_most(const std::optional<int64_t>& value, int64_t most, const char* name) {
  if (value) require_at_most(*value, most, name);
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

std::string within_part(const char* name, const std::string& message) {
  const auto path_end = message.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.");
  const bool begins_with_path =
      path_end != std::string::npos && path_end > 0 && message[path_end] == ':';
  return std::string(name) + (begins_with_path ? "." : ": ") + message;
}

}  // namespace x_transformers
