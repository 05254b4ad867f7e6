// What a few runs with different seeds say of a difference.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace x_transformers {

/// The probability that Student's t of `degrees` of freedom (more than 0, whole or not) is at least
/// as far from 0 as `t`: by the regularised incomplete beta function (DLMF 8.17).
double student_t_two_sided(double t, double degrees);

/// The value that Student's t of `degrees` of freedom stays below with `probability`, between 0 and
/// 1.
double student_t_quantile(double probability, double degrees);

double mean_of(const std::vector<double>& values);
/// The standard deviation of what the values are drawn from; 0 of less than two.
double deviation_of(const std::vector<double>& values);
/// Of no value: NaN.
double median_of(std::vector<double> values);

/// A difference of two means. Without two values on each side nothing is known of the noise, and
/// so nothing but `value`.
struct Difference {
  double value = 0;                 ///< of the first mean to the second
  std::optional<double> low, high;  ///< the interval that holds the true one in 95 of 100 cases
  std::optional<double> p_value;    ///< of a difference at least this large where the true one is 0
  std::optional<double> detectable;  ///< the one that would be seen at 5 % in 4 of 5 comparisons
};

/// Welch's test: the two samples are independent, and may vary by different amounts.
Difference welch_difference(const std::vector<double>& sample, const std::vector<double>& base);

/// The t test of the differences of values that belong together, as the runs of one seed: takes
/// out what both have in common, at the price of half the degrees of freedom.
Difference paired_difference(const std::vector<double>& sample, const std::vector<double>& base);

enum class Verdict { kBetter, kWorse, kNoDifferenceSeen };

/// Of a difference of losses: whether its interval lies below 0, above it, or holds it.
Verdict verdict_of(const Difference& difference);
/// "better", "worse", "no difference seen".
const char* words_of(Verdict verdict);

}  // namespace x_transformers
