#include "x_transformers/data/task_source.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers::task_source_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

DataOptions options(const std::string& name, int64_t length, int64_t symbols = 16) {
  DataOptions result;
  result.task.name = name;
  result.task.length = length;
  result.task.symbols = symbols;
  result.batch_size = 8;
  return result;
}

TEST(TaskSource, CopyWritesWhatItReads) {
  const auto batch = open_data_source(options("copy", 5), {})->training_batch(3).tensors;
  const auto& src = batch.at("src");
  EXPECT_EQ(src.sizes(), (at::IntArrayRef{8, 5}));
  EXPECT_GE(src.min().item<int64_t>(), 2);
  EXPECT_LT(src.max().item<int64_t>(), 18);
  EXPECT_TRUE(at::equal(batch.at("tgt").slice(1, 1), src));
  EXPECT_TRUE(batch.at("tgt").select(1, 0).eq(1).all().item<bool>());
}

TEST(TaskSource, ParityTellsWhetherTheOnesAreOdd) {
  const auto batch = open_data_source(options("parity", 20), {})->training_batch(0).tensors;
  EXPECT_TRUE(at::equal(batch.at("x").cumsum(1).remainder(2), batch.at("labels")));
  EXPECT_NEAR(batch.at("x").to(at::kFloat).mean().item<float>(), 0.5, 0.15);
}

TEST(TaskSource, APathStarEndsInTheOnlyPathBetweenItsEnds) {
  auto given = options("path_star", 4, 30);
  given.task.arms = 3;
  const auto x = open_data_source(given, {})->training_batch(1).tensors.at("x");
  const int64_t edges = 3 * 3;
  ASSERT_EQ(x.size(1), 2 * edges + 4 + 4);
  for (int64_t row = 0; row < x.size(0); ++row) {
    const auto at = [&](int64_t place) { return x[row][place].item<int64_t>(); };
    std::set<std::pair<int64_t, int64_t>> pairs;
    for (int64_t edge = 0; edge < edges; ++edge) pairs.insert({at(2 * edge), at(2 * edge + 1)});
    EXPECT_EQ(pairs.size(), 9u);
    EXPECT_EQ(at(2 * edges), 0);
    EXPECT_EQ(at(2 * edges + 3), 1);
    const int64_t path = 2 * edges + 4;
    EXPECT_EQ(at(path), at(2 * edges + 1));
    EXPECT_EQ(at(path + 3), at(2 * edges + 2));
    for (int64_t step = 0; step < 3; ++step)
      EXPECT_TRUE(pairs.contains({at(path + step), at(path + step + 1)}));
  }
}

TEST(TaskSource, ValidationIsTheSameWithBatchesOfAnySize) {
  const auto validation = [](int64_t batch_size) {
    auto given = options("copy", 4);
    given.batch_size = batch_size;
    given.val_batches = 2;
    const auto source = open_data_source(given, {});
    std::vector<at::Tensor> batches;
    for (int64_t i = 0; i < source->validation_batches(); ++i) {
      const auto batch = source->validation_batch(i);
      batches.push_back(batch.tensors.at("src"));
      EXPECT_EQ(batch.targets, batches.back().size(0));
    }
    return at::cat(batches);
  };
  const auto usual = validation(16);
  EXPECT_EQ(usual.size(0), 32);
  for (const int64_t batch_size : {1, 5, 64}) EXPECT_TRUE(at::equal(validation(batch_size), usual));
}

TEST(TaskSource, ABatchDependsOnSeedAndPlaceAloneAndRanksShareIt) {
  auto given = options("copy", 4);
  const auto src = [](const auto& source, int64_t sample) {
    return source->training_batch(sample).tensors.at("src");
  };
  const auto one = open_data_source(given, {}), same = open_data_source(given, {});
  const auto late = src(one, 70);
  EXPECT_TRUE(at::equal(late, src(same, 70)));
  EXPECT_FALSE(at::equal(late, src(one, 78)));
  EXPECT_FALSE(at::equal(src(one, 0), one->validation_batch(0).tensors.at("src")));
  auto half = given;
  half.batch_size /= 2;
  const auto first = open_data_source(half, {.place = {0, 2}}),
             second = open_data_source(half, {.place = {1, 2}});
  EXPECT_EQ(first->batch_size(), one->batch_size());
  EXPECT_TRUE(at::equal(at::cat({src(first, 5), src(second, 5)}), src(one, 5)));
  given.seed = 1;
  EXPECT_FALSE(at::equal(late, src(open_data_source(given, {}), 70)));
}

void expect_refused(const DataOptions& given, const std::string& message) {
  EXPECT_THAT([&] { validate(given); }, ThrowsMessage<InputError>(HasSubstr(message)));
}

TEST(TaskSource, RefusesWhatNothingReads) {
  expect_refused(options("copi", 4),
                 "data.task.name: expected copy, parity or path_star, got 'copi'");
  expect_refused(options("copy", 0), "data.task.length");
  expect_refused(options("copy", 99'999'999'999),
                 "data.task.length: expected 1000000 or less, got 99999999999");
  expect_refused(options("path_star", 9, 16), "data.task.symbols: expected at least 17");
  auto given = options("copy", 4);
  given.path = "file.txt";
  expect_refused(given, "data.path: a task is made up");
  given = options("copy", 4);
  given.val_path = "file.txt";
  expect_refused(given, "data.val_path: has no use with data of format task");
  given = options("copy", 4);
  given.seq_len = 3;
  expect_refused(given, "data.seq_len: has no use with data of format task");
  given = {};
  given.path = "text.txt";
  given.task.length = 5;
  expect_refused(given, "data.task: has no use with data of format text");
}

}  // namespace
}  // namespace x_transformers::task_source_test
