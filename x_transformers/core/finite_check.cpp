#include "x_transformers/core/finite_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/first_wrong.h"

namespace x_transformers {

void require_finite(const at::Tensor& t, const std::string& name) {
  if (!t.defined() || !t.is_floating_point()) return;
  const auto is_wrong = at::isfinite(t).logical_not();
  if (!is_wrong.any().item<bool>()) return;
  const auto [place, value] = first_wrong(is_wrong, t);
  throw InputError(
      Notice{at(name), text("expected finite numbers, got {} at position [{}]",
                            value.item<double>(), fmt::format("{}", fmt::join(place, ", ")))});
}

}  // namespace x_transformers
