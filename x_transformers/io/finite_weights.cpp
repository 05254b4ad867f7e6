#include "x_transformers/io/finite_weights.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstdint>

#include "x_transformers/core/error.h"
#include "x_transformers/core/first_wrong.h"
#include "x_transformers/core/format.h"

namespace x_transformers {
namespace {

bool is_finite(const at::Tensor& tensor) {
  if (!tensor.is_floating_point() || tensor.numel() == 0 || tensor.is_meta()) return true;
  const bool is_narrow = tensor.element_size() == 1;  // float8, which has few operations
  // In one pass: NaN is both the least and the largest of what holds one.
  const auto [least, largest] = at::aminmax(is_narrow ? tensor.to(at::kFloat) : tensor);
  return std::isfinite(least.item<double>()) && std::isfinite(largest.item<double>());
}

}  // namespace

void require_finite(const TensorMap& weights, const std::filesystem::path& path) {
  for (const auto& [name, tensor] : weights) {
    if (!tensor.defined() || is_finite(tensor)) continue;
    const auto values = tensor.to(at::kFloat);
    const auto is_wrong = at::isfinite(values).logical_not();
    const auto [place, value] = first_wrong(is_wrong, values);
    const auto what = std::isnan(value.item<double>()) ? "NaN" : "an infinity";
    require(false, at(OptionPath(path.string() + ":") / name),
            "holds {} at [{}] (not finite: {} of {}), expected finite weights", what,
            fmt::format("{}", fmt::join(place, ", ")), is_wrong.sum().item<int64_t>(),
            how_many(tensor.numel(), "number"));
  }
}

}  // namespace x_transformers
