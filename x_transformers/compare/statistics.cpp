#include "x_transformers/compare/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace x_transformers {
namespace {

constexpr double kLevel = 0.05;  // of tests, and what intervals leave out
constexpr double kPower = 0.8;   // of `detectable`

/// The continued fraction of the incomplete beta function, DLMF 8.17.22, by Lentz's method; it
/// converges fast where x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300, kEnough = 1e-15;
  const auto nonzero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1, d = 1 / nonzero(1 - (a + b) * x / (a + 1)), result = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonzero(1 + even * d);
    c = nonzero(1 + even / c);
    result *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonzero(1 + odd * d);
    c = nonzero(1 + odd / c);
    result *= d * c;
    if (std::abs(d * c - 1) < kEnough) break;
  }
  return result;
}

/// I_x(a, b).
double regularised_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                   : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/// What a difference `value` with this standard error says.
Difference tested(double value, double error, double degrees) {
  Difference result{value, value, value, value == 0 ? 1.0 : 0.0, 0.0};
  if (!(error > 0)) return result;  // nothing varies
  const double quantile = student_t_quantile(1 - kLevel / 2, degrees);
  result.low = value - quantile * error;
  result.high = value + quantile * error;
  result.p_value = student_t_two_sided(value / error, degrees);
  result.detectable = (quantile + student_t_quantile(kPower, degrees)) * error;
  return result;
}

}  // namespace

double student_t_two_sided(double t, double degrees) {
  if (std::isnan(t)) return t;
  return regularised_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

double student_t_quantile(double probability, double degrees) {
  if (probability < 0.5) return -student_t_quantile(1 - probability, degrees);
  const double beyond = 2 * (1 - probability);
  double low = 0, high = 1;
  while (student_t_two_sided(high, degrees) > beyond && high < 1e300) high *= 2;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) break;
    (student_t_two_sided(middle, degrees) > beyond ? low : high) = middle;
  }
  return high;
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double median_of(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const auto half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

Difference welch_difference(const std::vector<double>& sample, const std::vector<double>& base) {
  const double value = mean_of(sample) - mean_of(base);
  if (sample.size() < 2 || base.size() < 2) return {value, {}, {}, {}, {}};
  const auto n = static_cast<double>(sample.size()), m = static_cast<double>(base.size());
  const double of_sample = std::pow(deviation_of(sample), 2) / n,
               of_base = std::pow(deviation_of(base), 2) / m, sum = of_sample + of_base;
  const double degrees =
      sum * sum / (of_sample * of_sample / (n - 1) + of_base * of_base / (m - 1));
  return tested(value, std::sqrt(sum), degrees);
}

Difference paired_difference(const std::vector<double>& sample, const std::vector<double>& base) {
  std::vector<double> differences;
  for (size_t i = 0; i < std::min(sample.size(), base.size()); ++i)
    differences.push_back(sample[i] - base[i]);
  const double value = mean_of(differences);
  if (differences.size() < 2) return {value, {}, {}, {}, {}};
  const auto n = static_cast<double>(differences.size());
  return tested(value, deviation_of(differences) / std::sqrt(n), n - 1);
}

Verdict verdict_of(const Difference& difference) {
  if (difference.high && *difference.high < 0) return Verdict::kBetter;
  if (difference.low && *difference.low > 0) return Verdict::kWorse;
  return Verdict::kNoDifferenceSeen;
}

const char* words_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kBetter:
      return "better";
    case Verdict::kWorse:
      return "worse";
    case Verdict::kNoDifferenceSeen:
      break;
  }
  return "no difference seen";
}

}  // namespace x_transformers
