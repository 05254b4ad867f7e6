#include "x_transformers/compare/equal_width.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "x_transformers/core/error.h"
#include "x_transformers/interchange/file_models.h"

namespace x_transformers {
namespace {

/// Widths are multiples of it: a power of two that the base's width has, at most 8, and no more
/// than some 3 % of it.
int64_t step_of(int64_t width) {
  constexpr int64_t kMax = 8, kShare = 32;
  int64_t step = 1;
  while (step < kMax && width % (2 * step) == 0 && 2 * step * kShare <= width) step *= 2;
  return step;
}

}  // namespace

EqualTo parse_equal(const std::string& text) {
  if (text.empty()) return EqualTo::kNothing;
  if (text == "parameters") return EqualTo::kParameters;
  expect(text == "compute", at("equal"), text, "parameters or compute");
  return EqualTo::kCompute;
}

std::string words_of(EqualTo equal_to) {
  return equal_to == EqualTo::kParameters ? "parameters" : "FLOPs per token";
}

std::vector<std::string> width_keys(const Json& run) {
  const auto model = run.find("model");
  std::vector<std::string> width;
  if (model != run.end()) {
    for (const auto& part : models_of_file(*model)) {
      auto keys = keys_of_option(value_at(*model, part.keys), "dim");
      if (keys.empty()) continue;
      keys.insert(keys.begin(), part.keys.begin(), part.keys.end());
      if (!value_at(*model, keys).is_number_integer()) continue;
      width = std::move(keys);  // that of a net before that of what holds the net
    }
  }
  require(!width.empty(), at("equal"), "needs a model with one width, a {}", option("dim"));
  width.insert(width.begin(), "model");
  return width;
}

std::optional<AdjustedWidth> fit_width(Json& run, double size,
                                       const std::function<double(const Json& run)>& size_of) {
  constexpr double kNear = 1e-3, kMax = 64;
  const auto keys = width_keys(run);
  const auto before = value_at(run, keys).get<int64_t>();
  const auto step = step_of(before);
  std::map<int64_t, double> known;
  const auto size_at = [&](int64_t width) {
    const auto [found, is_new] = known.try_emplace(width, 0);
    if (is_new) {
      auto changed = run;
      value_at(changed, keys) = width;
      found->second = size_of(changed);
    }
    return found->second;
  };
  if (std::abs(size_at(before) / size - 1) < kNear) return std::nullopt;
  // The first width that is large enough lies in (low, high].
  int64_t low = 0, high = before;
  while (size_at(high) < size) {
    low = high;
    high *= 2;
    require(static_cast<double>(high) <= kMax * static_cast<double>(before), at("equal"),
            "no width makes the model as large as the base");
  }
  while (high - low > step) {
    const auto middle = std::max(low + step, (low + high) / 2 / step * step);
    (size_at(middle) < size ? low : high) = middle;
  }
  const auto distance = [&](int64_t width) { return std::abs(std::log(size_at(width) / size)); };
  const auto width = low > 0 && distance(low) < distance(high) ? low : high;
  value_at(run, keys) = width;
  return AdjustedWidth{fmt::format("{}", fmt::join(keys, ".")), width, before,
                       size_at(width) / size};
}

}  // namespace x_transformers
