#include "x_transformers/compare/halving.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "x_transformers/compare/statistics.h"

namespace x_transformers {

std::optional<double> noise_of_one_more(const std::vector<double>& losses) {
  constexpr double kProbability = 0.975;
  if (losses.size() < 2) return std::nullopt;
  const auto count = static_cast<double>(losses.size());
  return student_t_quantile(kProbability, count - 1) * deviation_of(losses) *
         std::sqrt(1 + 1 / count);
}

std::vector<size_t> lost_at_rung(const std::vector<double>& variants,
                                 const std::vector<double>& base) {
  const auto noise = noise_of_one_more(base);
  if (!noise) return {};
  const auto ranked = [&](size_t place) {
    const auto loss = variants[place];
    return std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity();
  };
  std::vector<size_t> order(variants.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return ranked(a) < ranked(b); });
  order.erase(order.begin(), order.begin() + static_cast<ptrdiff_t>(variants.size() / 2));
  std::erase_if(order, [&](size_t place) { return ranked(place) <= mean_of(base) + *noise; });
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace x_transformers
