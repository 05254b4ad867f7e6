#include "x_transformers/core/whole_number.h"

#include <cmath>
#include <utility>

namespace x_transformers {

std::optional<int64_t> whole_number(double number) {
  constexpr double kMax = 9007199254740992;
  const bool is_whole = std::floor(number) == number && std::abs(number) < kMax;
  return is_whole ? std::optional(static_cast<int64_t>(number)) : std::nullopt;
}

Json with_integers(Json json) {
  if (json.is_structured()) {
    for (auto& inner : json) inner = with_integers(std::move(inner));
  } else if (json.is_number_float()) {
    if (const auto whole = whole_number(json.get<double>())) return *whole;
  }
  return json;
}

}  // namespace x_transformers
