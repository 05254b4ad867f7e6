#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "x_transformers/core/error.h"
#include "x_transformers/data/random.h"
#include "x_transformers/data/token_sampler.h"

namespace x_transformers::data_sampler_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<int64_t> values(const at::Tensor& tensor) {
  const auto flat = tensor.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

/// Tokens 0 .. count - 1, so that a token tells its place.
TokenDataset numbered(int64_t count) {
  auto tokens = std::make_shared<std::vector<uint32_t>>(count);
  std::iota(tokens->begin(), tokens->end(), 0u);
  return TokenDataset({{tokens, tokens->data(), count, at::kUInt32, "numbers"}}, count);
}

DataOptions order(const std::string& name, int64_t batch_size, int64_t seq_len, int64_t seed = 0) {
  DataOptions options;
  options.seq_len = seq_len;
  options.order = name;
  options.batch_size = batch_size;
  options.seed = seed;
  return options;
}

template <class Use>
void expect_input_error(Use use, const std::string& part) {
  EXPECT_THAT(use, ThrowsMessage<InputError>(HasSubstr(part)));
}

TEST(Sampling, WindowsAreRunsOfTheData) {
  for (const auto* name : {"random", "epoch"}) {
    const BatchSampler sampler(numbered(1000), order(name, 5, 7));
    const auto batch = sampler.batch(3);
    EXPECT_EQ(batch.scalar_type(), at::kLong);
    ASSERT_EQ(batch.sizes(), (at::IntArrayRef{5, 8}));
    EXPECT_TRUE(at::equal(batch - batch.slice(1, 0, 1), at::arange(8).expand({5, 8})));
  }
}

TEST(Sampling, ABatchDependsOnSeedAndPlaceAlone) {
  for (const auto* name : {"random", "epoch"}) {
    const BatchSampler one(numbered(1000), order(name, 4, 8, 1)),
        same(numbered(1000), order(name, 4, 8, 1)), other(numbered(1000), order(name, 4, 8, 2));
    const auto late = one.batch(70);
    one.batch(0);
    EXPECT_TRUE(at::equal(late, same.batch(70)));
    EXPECT_FALSE(at::equal(late, other.batch(70)));
    EXPECT_FALSE(at::equal(late, one.batch(74)));
  }
}

TEST(Sampling, BatchesOfAnySizeCutTheSameSequences) {
  const BatchSampler whole(numbered(1000), order("random", 8, 8)),
      parts(numbered(1000), order("random", 2, 8));
  EXPECT_TRUE(at::equal(whole.batch(8),
                        at::cat({parts.batch(8), parts.batch(10), parts.sequences(12, 4)})));
}

TEST(Sampling, RanksShareTheBatchOfOne) {
  for (const auto* name : {"random", "epoch"}) {
    const BatchSampler whole(numbered(1000), order(name, 6, 8));
    for (const int64_t world : {2, 3}) {
      const auto options = order(name, 6 / world, 8);
      for (const int64_t step : {0, 5}) {
        std::vector<at::Tensor> shares;
        for (int64_t rank = 0; rank < world; ++rank)
          shares.push_back(BatchSampler(numbered(1000), options, {rank, world}).batch(step));
        EXPECT_EQ(shares[0].size(0), 6 / world);
        EXPECT_EQ(BatchSampler(numbered(1000), options, {0, world}).batch_size(), 6);
        EXPECT_TRUE(at::equal(at::cat(shares), whole.batch(step)));
      }
    }
  }
  expect_input_error(
      [] {
        BatchSampler(numbered(1000), order("random", 6, 8), {4, 4});
      },
      "rank 4 of 4 processes");
}

TEST(Sampling, TheOrderIsThatOfEveryVersion) {
  // A change of these numbers would change every run that is resumed.
  EXPECT_EQ(random_bits(0, 0), 12035550249420947055u);
  const BatchSampler random(numbered(1000), order("random", 6, 1, 42));
  EXPECT_THAT(values(random.batch(0).select(1, 0)), ElementsAre(342, 954, 485, 67, 676, 67));
  const BatchSampler epoch(numbered(100), order("epoch", 6, 10, 42));
  EXPECT_THAT(values(epoch.batch(0).select(1, 0)), ElementsAre(13, 83, 63, 53, 23, 3));
}

TEST(Sampling, RandomWindowsReachBothEnds) {
  const BatchSampler sampler(numbered(12), order("random", 200, 8));
  const auto starts = values(sampler.batch(0).select(1, 0));
  EXPECT_EQ(std::set<int64_t>(starts.begin(), starts.end()), (std::set<int64_t>{0, 1, 2, 3}));
}

TEST(Sampling, AnEpochTakesEachWindowOnce) {
  const BatchSampler sampler(numbered(101), order("epoch", 10, 10));
  ASSERT_EQ(sampler.epoch_size(), 10);
  std::set<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    auto starts = values(sampler.batch(10 * epoch).select(1, 0));
    orders.insert(starts);
    std::sort(starts.begin(), starts.end());
    EXPECT_EQ(starts, values(at::arange(0, 100, 10)));
  }
  EXPECT_EQ(orders.size(), 5u);
}

TEST(Sampling, TheTokensLeftOverComeInOtherEpochs) {
  const BatchSampler sampler(numbered(108), order("epoch", 10, 10));
  std::set<int64_t> shifts;
  for (int64_t epoch = 0; epoch < 40; ++epoch) {
    auto starts = values(sampler.batch(10 * epoch).select(1, 0));
    std::sort(starts.begin(), starts.end());
    for (size_t i = 1; i < starts.size(); ++i) EXPECT_EQ(starts[i] - starts[i - 1], 10);
    shifts.insert(starts[0]);
  }
  EXPECT_EQ(shifts, (std::set<int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(Sampling, TooLittleDataIsRefused) {
  expect_input_error([&] { BatchSampler(numbered(8), order("random", 1, 8)); }, "at least 9");
  EXPECT_EQ(BatchSampler(numbered(9), order("epoch", 1, 8)).batch(5).size(1), 9);
  expect_input_error([&] { ValidationSampler(numbered(8), order("random", 1, 8)); }, "at least 9");
}

TEST(Sampling, OptionsThatCannotBeAreRefused) {
  expect_input_error([&] { BatchSampler(numbered(9), order("sorted", 1, 8)); }, "data.order");
  expect_input_error([&] { BatchSampler(numbered(9), order("random", 0, 8)); }, "data.batch_size");
  expect_input_error([&] { ValidationSampler(numbered(9), order("random", 1, 0)); },
                     "data.seq_len");
}

TEST(Sampling, ValidationWindowsAreSpacedEvenly) {
  auto given = order("random", 4, 10);
  given.val_batches = 1;
  const ValidationSampler sampler(numbered(1000), given);
  ASSERT_EQ(sampler.batches(), 4);
  EXPECT_THAT(values(sampler.batch(0).select(1, 0)), ElementsAre(0, 65, 131, 197));
  EXPECT_THAT(values(sampler.batch(3).select(1, 0)), ElementsAre(791, 857, 923, 989));
  EXPECT_EQ(sampler.batch(1).sizes(), (at::IntArrayRef{4, 11}));
  expect_input_error([&] { sampler.batch(4); }, "there are 4");
}

TEST(Sampling, ValidationIsTheSameWithBatchesOfAnySize) {
  const auto starts = [](int64_t batch_size, int64_t val_batches) {
    auto given = order("random", batch_size, 10);
    given.val_batches = val_batches;
    const ValidationSampler sampler(numbered(1000), given);
    std::vector<int64_t> all;
    for (int64_t i = 0; i < sampler.batches(); ++i) {
      EXPECT_LE(sampler.batch(i).size(0), batch_size);
      for (const int64_t start : values(sampler.batch(i).select(1, 0))) all.push_back(start);
    }
    return all;
  };
  for (const int64_t val_batches : {0, 2, 6, 7}) {
    const auto usual = starts(16, val_batches);
    EXPECT_EQ(usual.size(), val_batches == 2 ? 32U : val_batches == 6 ? 96U : 99U);
    for (const int64_t batch_size : {1, 5, 32, 200})
      EXPECT_EQ(starts(batch_size, val_batches), usual) << batch_size << " " << val_batches;
  }
}

TEST(Sampling, ValidationOfAllTokensDoesNotOverlap) {
  for (const int64_t size : {11, 57, 71, 100, 1003}) {
    auto given = order("random", 3, 10);
    given.val_batches = 0;
    const ValidationSampler sampler(numbered(size), given);
    std::vector<int64_t> starts;
    for (int64_t i = 0; i < sampler.batches(); ++i) {
      for (const int64_t start : values(sampler.batch(i).select(1, 0))) starts.push_back(start);
    }
    EXPECT_EQ(static_cast<int64_t>(starts.size()), (size - 1) / 10);
    for (size_t i = 1; i < starts.size(); ++i) EXPECT_GE(starts[i] - starts[i - 1], 10);
    EXPECT_LE(starts.back() + 11, size);
  }
}

TEST(DataRandom, PermutationsAreOneToOne) {
  for (const uint64_t size : {1u, 2u, 3u, 5u, 64u, 1000u, 4097u}) {
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < size; ++i) seen.insert(permuted_index(i, size, 7));
    EXPECT_EQ(seen.size(), size);
    EXPECT_EQ(*seen.rbegin(), size - 1);
  }
}

TEST(DataRandom, IndicesAreSpreadEvenly) {
  constexpr uint64_t kSize = 10, kDraws = 100000;
  std::vector<int> counts(kSize);
  for (uint64_t i = 0; i < kDraws; ++i) ++counts[random_index(random_bits(3, i), kSize)];
  for (const int count : counts) EXPECT_NEAR(count, kDraws / kSize, 500);  // five deviations
}

}  // namespace
}  // namespace x_transformers::data_sampler_test
