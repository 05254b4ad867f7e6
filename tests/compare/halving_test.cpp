#include "x_transformers/compare/halving.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace x_transformers {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Halving, NoiseIsThatOfOneMoreRun) {
  EXPECT_FALSE(noise_of_one_more({2.0}));
  // t of two degrees of freedom at 97.5 % is 4.3027, the deviation 0.1.
  EXPECT_NEAR(*noise_of_one_more({1.9, 2.0, 2.1}), 4.3027 * 0.1 * std::sqrt(4.0 / 3), 1e-4);
}

TEST(Halving, GivesUpOfTheWorseHalfWhatNoiseDoesNotExplain) {
  const std::vector<double> base{1.9, 2.0, 2.1};  // up to 2.497 by noise
  EXPECT_THAT(lost_at_rung({2.6, 1.5, 2.4, 2.9}, base), ElementsAre(0, 3));
  // Three are beyond the noise, and two of four may go.
  EXPECT_THAT(lost_at_rung({2.6, 2.7, 1.5, 2.9}, base), ElementsAre(1, 3));
  EXPECT_THAT(lost_at_rung({2.4, 1.5}, base), IsEmpty());
  EXPECT_THAT(lost_at_rung({2.6}, base), ElementsAre(0));
  EXPECT_THAT(lost_at_rung({1.5, std::nan("")}, base), ElementsAre(1));
  EXPECT_THAT(lost_at_rung({9.0, 1.5}, {2.0}), IsEmpty());  // no noise is known
  EXPECT_THAT(lost_at_rung({}, base), IsEmpty());
}

/// 2,000 comparisons at a rung, with three seeds: one variant is like the base, one better, and one
/// worse by ten times the noise.
TEST(Halving, KeepsWhatIsLikeTheBaseAndFindsWhatIsWorse) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> noise(0, 0.02);
  int equal_lost = 0, better_lost = 0, worse_lost = 0;
  constexpr int kComparisons = 2000;
  for (int i = 0; i < kComparisons; ++i) {
    std::vector<double> base;
    for (int seed = 0; seed < 3; ++seed) base.push_back(2 + noise(random));
    const auto lost =
        lost_at_rung({2 + noise(random), 1.95 + noise(random), 2.2 + noise(random)}, base);
    for (const auto place : lost)
      ++(place == 0 ? equal_lost : place == 1 ? better_lost : worse_lost);
  }
  EXPECT_LE(equal_lost, 0.035 * kComparisons);  // 0.025 are expected
  EXPECT_LE(better_lost, 0.001 * kComparisons);
  EXPECT_GE(worse_lost, 0.8 * kComparisons);
}

}  // namespace
}  // namespace x_transformers
