#include "x_transformers/compare/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>

#include "x_transformers/core/json.h"

namespace x_transformers {
namespace {

/// The density of Student's t.
double density(double t, double degrees) {
  const double factor = std::exp(std::lgamma((degrees + 1) / 2) - std::lgamma(degrees / 2));
  return factor / std::sqrt(degrees * std::numbers::pi) *
         std::pow(1 + t * t / degrees, -(degrees + 1) / 2);
}

/// The probability that |T| is below t, by Simpson's rule.
double integrated(double t, double degrees) {
  constexpr int kParts = 20000;
  const double width = t / kParts;
  double sum = density(0, degrees) + density(t, degrees);
  for (int i = 1; i < kParts; ++i) sum += (i % 2 == 1 ? 4 : 2) * density(i * width, degrees);
  return 2 * sum * width / 3;
}

std::vector<double> drawn(std::mt19937_64& random, size_t count, double mean, double deviation) {
  std::normal_distribution<double> normal(mean, deviation);
  std::vector<double> values(count);
  for (auto& value : values) value = normal(random);
  return values;
}

TEST(StudentT, HasTheClosedFormsOfOneAndTwoDegrees) {
  for (const double t : {0.0, 0.1, 1.0, 2.5, 40.0, 1e6}) {
    EXPECT_NEAR(student_t_two_sided(t, 1), 1 - 2 / std::numbers::pi * std::atan(t), 1e-13);
    EXPECT_NEAR(student_t_two_sided(t, 2), 1 - t / std::sqrt(2 + t * t), 1e-13);
    EXPECT_EQ(student_t_two_sided(t, 3.7), student_t_two_sided(-t, 3.7));
  }
}

TEST(StudentT, IsTheIntegralOfItsDensityForDegreesBetween) {
  for (const double degrees : {1.3, 2.6, 3.99, 7.5, 30.0, 250.0}) {
    for (const double t : {0.2, 1.0, 2.2, 5.0})
      EXPECT_NEAR(student_t_two_sided(t, degrees), 1 - integrated(t, degrees), 1e-10)
          << degrees << " " << t;
  }
}

TEST(StudentT, HasTheQuantilesOfTables) {
  EXPECT_NEAR(student_t_quantile(0.975, 1), 12.7062, 5e-5);
  EXPECT_NEAR(student_t_quantile(0.975, 2), 4.30265, 5e-6);
  EXPECT_NEAR(student_t_quantile(0.975, 4), 2.77645, 5e-6);
  EXPECT_NEAR(student_t_quantile(0.975, 10), 2.22814, 5e-6);
  EXPECT_NEAR(student_t_quantile(0.95, 30), 1.69726, 5e-6);
  EXPECT_NEAR(student_t_quantile(0.025, 10), -2.22814, 5e-6);
  EXPECT_NEAR(student_t_quantile(0.975, 1e7), 1.95996, 5e-6);
  EXPECT_NEAR(student_t_quantile(0.5, 5), 0, 1e-12);
}

TEST(Welch, IsTheTestOfAnExampleByHand) {
  // Means 2 and 5, variances 1 and 4, of three each: error sqrt(5/3), degrees 25/8.5... by hand.
  const auto difference = welch_difference({1, 2, 3}, {3, 5, 7});
  const double error = std::sqrt(5.0 / 3), degrees = std::pow(5.0 / 3, 2) / (1.0 / 18 + 16.0 / 18);
  EXPECT_DOUBLE_EQ(difference.value, -3);
  EXPECT_NEAR(*difference.p_value, 1 - integrated(3 / error, degrees), 1e-9);
  EXPECT_NEAR(*difference.high - difference.value, error * student_t_quantile(0.975, degrees),
              1e-12);
  EXPECT_NEAR(*difference.high + *difference.low, 2 * difference.value, 1e-12);
  EXPECT_GT(*difference.detectable, *difference.high - difference.value);
}

TEST(Welch, SaysNothingOfNoiseThatItHasNotSeen) {
  const auto difference = welch_difference({1}, {2, 3});
  EXPECT_DOUBLE_EQ(difference.value, -1.5);
  EXPECT_FALSE(difference.low || difference.high || difference.p_value || difference.detectable);
  EXPECT_EQ(verdict_of(difference), Verdict::kNoDifferenceSeen);
}

TEST(Welch, KnowsRunsThatAreAllAlike) {
  EXPECT_EQ(*welch_difference({2, 2, 2}, {2, 2, 2}).p_value, 1);
  EXPECT_EQ(verdict_of(welch_difference({2, 2, 2}, {2, 2, 2})), Verdict::kNoDifferenceSeen);
  EXPECT_EQ(verdict_of(welch_difference({1, 1}, {2, 2})), Verdict::kBetter);
  EXPECT_EQ(verdict_of(welch_difference({3, 3}, {2, 2})), Verdict::kWorse);
}

TEST(Welch, SeesNoDifferenceBetweenEqualVariants) {
  for (const size_t seeds : {size_t{2}, size_t{3}, size_t{5}}) {
    std::mt19937_64 random(7);
    int seen = 0, covered = 0;
    constexpr int kComparisons = 4000;
    for (int i = 0; i < kComparisons; ++i) {
      const auto base = drawn(random, seeds, 2.5, 0.02), variant = drawn(random, seeds, 2.5, 0.02);
      const auto difference = welch_difference(variant, base);
      if (verdict_of(difference) != Verdict::kNoDifferenceSeen) ++seen;
      if (*difference.low <= 0 && 0 <= *difference.high) ++covered;
      if (seeds == 3 && i == 99) {
        EXPECT_LE(seen, 5);
      }
    }
    EXPECT_LE(seen, kComparisons * 0.057) << seeds;  // 5 %, and two standard deviations
    EXPECT_EQ(covered, kComparisons - seen);
  }
}

TEST(Welch, HoldsTheTrueDifferenceAlsoWhereNoiseDiffers) {
  std::mt19937_64 random(11);
  int held = 0;
  constexpr int kComparisons = 4000;
  for (int i = 0; i < kComparisons; ++i) {
    const auto base = drawn(random, 5, 2.5, 0.01), variant = drawn(random, 5, 2.6, 0.05);
    const auto difference = welch_difference(variant, base);
    if (*difference.low <= 0.1 && 0.1 <= *difference.high) ++held;
  }
  EXPECT_NEAR(held / double{kComparisons}, 0.95, 0.012);
}

TEST(Welch, FindsAPlantedEffectAsOftenAsItSays) {
  std::mt19937_64 random(13);
  int better = 0, worse = 0, of_detectable = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto base = drawn(random, 3, 2.5, 0.02);
    if (verdict_of(welch_difference(drawn(random, 3, 2.3, 0.02), base)) == Verdict::kBetter)
      ++better;
    if (verdict_of(welch_difference(drawn(random, 3, 2.7, 0.02), base)) == Verdict::kWorse) ++worse;
    // What 20 seeds could see by their own account, with a noise that is then well known.
    const auto many = drawn(random, 20, 2.5, 0.02), same = drawn(random, 20, 2.5, 0.02);
    const double detectable = *welch_difference(same, many).detectable;
    if (verdict_of(welch_difference(drawn(random, 20, 2.5 - detectable, 0.02), many)) ==
        Verdict::kBetter)
      ++of_detectable;
  }
  EXPECT_GE(better, 950);
  EXPECT_GE(worse, 950);
  EXPECT_NEAR(of_detectable / 1000.0, 0.8, 0.05);
}

/// What SciPy makes of the losses of 36 simulated comparisons: make_golden.py.
TEST(Welch, HasTheNumbersOfScipy) {
  const auto golden = read_json_file(XT_TEST_DATA "/statistics.json");
  const auto expect_near = [](const std::optional<double>& ours, const Json& theirs,
                              const std::string& what) {
    ASSERT_TRUE(ours) << what;
    const auto value = theirs.get<double>();
    EXPECT_NEAR(*ours, value, 1e-8 * std::abs(value) + 1e-11) << what;
  };
  const auto losses = [](const Json& list) { return list.get<std::vector<double>>(); };
  ASSERT_EQ(golden["comparisons"].size(), 36U);
  for (const auto& each : golden["comparisons"]) {
    const auto base = losses(each["base"]), variant = losses(each["variant"]);
    const auto welch = welch_difference(variant, base), paired = paired_difference(variant, base);
    expect_near(welch.p_value, each["welch"]["p_value"], "p of " + each.dump());
    expect_near(welch.low, each["welch"]["low"], "low of " + each.dump());
    expect_near(welch.high, each["welch"]["high"], "high of " + each.dump());
    expect_near(welch.detectable, each["welch"]["detectable"], "detectable of " + each.dump());
    expect_near(paired.p_value, each["paired"]["p_value"], "paired p of " + each.dump());
    expect_near(paired.low, each["paired"]["low"], "paired low of " + each.dump());
    expect_near(paired.high, each["paired"]["high"], "paired high of " + each.dump());
  }
  for (const auto& each : golden["quantiles"])
    expect_near(student_t_quantile(each[0].get<double>(), each[1].get<double>()), each[2],
                "quantile " + each.dump());
}

TEST(Paired, TakesOutWhatRunsOfASeedHaveInCommon) {
  std::mt19937_64 random(17);
  int seen = 0, seen_by_welch = 0, wrong = 0;
  for (int i = 0; i < 1000; ++i) {
    auto base = drawn(random, 5, 2.5, 0.1), variant = base, equal = base;
    for (auto& value : variant) value += drawn(random, 1, -0.05, 0.01)[0];
    for (auto& value : equal) value += drawn(random, 1, 0, 0.01)[0];
    if (verdict_of(paired_difference(variant, base)) == Verdict::kBetter) ++seen;
    if (verdict_of(welch_difference(variant, base)) == Verdict::kBetter) ++seen_by_welch;
    if (verdict_of(paired_difference(equal, base)) != Verdict::kNoDifferenceSeen) ++wrong;
  }
  EXPECT_GE(seen, 950);
  EXPECT_LE(seen_by_welch, 200);  // careful, and never wrong for it
  EXPECT_LE(wrong, 65);
}

TEST(Median, IsInTheMiddle) {
  EXPECT_EQ(median_of({3, 1, 2}), 2);
  EXPECT_EQ(median_of({4, 1, 2, 3}), 2.5);
  EXPECT_TRUE(std::isnan(median_of({})));
}

}  // namespace
}  // namespace x_transformers
