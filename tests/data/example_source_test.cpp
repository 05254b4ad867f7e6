#include "x_transformers/data/data_source.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers::example_source_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Examples 0 .. count - 1: `number` tells which one it is, `image` is made of it.
TensorMap numbered(int64_t count, int64_t first = 0) {
  const at::Tensor number = at::arange(first, first + count);
  return {{"number", number},
          {"image", number.to(at::kFloat).view({-1, 1, 1}).expand({count, 2, 3}).contiguous()}};
}

std::string write(const std::string& name, const TensorMap& tensors) {
  auto path = temporary_folder() + name + ".safetensors";
  save_safetensors(path, tensors);
  return path;
}

DataOptions options(const std::string& path, int64_t batch_size = 4) {
  DataOptions result;
  result.path = path;
  result.batch_size = batch_size;
  result.val_fraction = 0;
  return result;
}

std::vector<int64_t> numbers(const Batch& batch) {
  const auto flat = batch.tensors.at("number").contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

std::vector<int64_t> drawn(const DataSource& source, int64_t batches) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < batches; ++i) {
    for (const int64_t number : numbers(source.training_batch(i * source.batch_size())))
      all.push_back(number);
  }
  return all;
}

std::shared_ptr<const DataSource> open(const DataOptions& given, const WorldPlace& place = {}) {
  return open_data_source(given, {.place = place});
}

void expect_refused(const DataOptions& given, const std::string& part, const std::string& other) {
  EXPECT_THAT([&] { open(given); },
              ThrowsMessage<InputError>(AllOf(HasSubstr(part), HasSubstr(other))));
}

TEST(ExampleSource, ABatchIsExamplesOfEachTensor) {
  const auto source = open(options(write("batch", numbered(10))));
  const auto batch = source->training_batch(0);
  EXPECT_EQ(batch.targets, 4);
  EXPECT_EQ(batch.tensors.size(), 2u);
  EXPECT_EQ(batch.tensors.at("image").sizes(), (at::IntArrayRef{4, 2, 3}));
  EXPECT_TRUE(at::equal(batch.tensors.at("image").select(1, 1).select(1, 2).to(at::kLong),
                        batch.tensors.at("number")));
  EXPECT_EQ(source->target_unit(), "examples");
  EXPECT_EQ(source->tokenizer(), nullptr);
  EXPECT_FALSE(source->bytes_per_token());
  EXPECT_EQ(source->validation_batches(), 0);
}

TEST(ExampleSource, AnEpochDrawsEachExampleOnceAndTheNextAnew) {
  const auto source = open(options(write("epochs", numbered(10))));
  const auto all = drawn(*source, 5);  // two epochs, across the batches
  const std::vector<int64_t> first(all.begin(), all.begin() + 10),
      second(all.begin() + 10, all.end());
  EXPECT_EQ(std::set<int64_t>(first.begin(), first.end()).size(), 10u);
  EXPECT_EQ(std::set<int64_t>(second.begin(), second.end()).size(), 10u);
  EXPECT_NE(first, second);
}

TEST(ExampleSource, TheOrderIsThatOfEveryVersion) {
  // A change of these numbers would change every run that is resumed.
  auto given = options(write("order", numbered(10)), 10);
  given.seed = 42;
  EXPECT_THAT(numbers(open(given)->training_batch(0)), ElementsAre(1, 8, 9, 5, 2, 0, 3, 4, 7, 6));
  given.order = "random";
  EXPECT_THAT(numbers(open(given)->training_batch(0)), ElementsAre(3, 9, 4, 0, 6, 0, 1, 7, 1, 7));
}

TEST(ExampleSource, ABatchDependsOnSeedAndPlaceAlone) {
  auto given = options(write("seed", numbered(100)));
  const auto one = open(given), same = open(given);
  const auto late = numbers(one->training_batch(70));
  one->training_batch(0);
  EXPECT_EQ(late, numbers(same->training_batch(70)));
  given.seed = 1;
  EXPECT_NE(late, numbers(open(given)->training_batch(70)));
}

TEST(ExampleSource, BatchesOfAnySizeTakeTheSameExamples) {
  const auto path = write("sizes", numbered(10));
  EXPECT_EQ(drawn(*open(options(path, 6)), 2), drawn(*open(options(path, 3)), 4));
}

TEST(ExampleSource, RanksShareTheBatchOfOne) {
  const auto given = options(write("ranks", numbered(10)), 6);
  auto half = given;
  half.batch_size = 3;
  const auto whole = open(given);
  const auto first = open(half, {0, 2}), second = open(half, {1, 2});
  EXPECT_EQ(first->batch_size(), 6);
  for (int64_t i = 0; i < 24; i += 6) {
    auto shares = numbers(first->training_batch(i));
    EXPECT_EQ(shares.size(), 3u);
    for (const int64_t number : numbers(second->training_batch(i))) shares.push_back(number);
    EXPECT_EQ(shares, numbers(whole->training_batch(i)));
  }
  EXPECT_THAT(
      [&] {
        open(given, {4, 4});
      },
      ThrowsMessage<InputError>(HasSubstr("rank 4 of 4 processes")));
}

TEST(ExampleSource, TheLastExamplesAreKeptForValidation) {
  auto given = options(write("kept", numbered(20)), 3);
  given.val_fraction = 0.25;
  given.val_batches = 0;
  const auto source = open(given);
  for (const int64_t number : drawn(*source, 20)) EXPECT_LT(number, 15);
  ASSERT_EQ(source->validation_batches(), 2);
  EXPECT_THAT(numbers(source->validation_batch(0)), ElementsAre(15, 16, 17));
  EXPECT_THAT(numbers(source->validation_batch(1)), ElementsAre(18, 19));
  EXPECT_EQ(source->validation_batch(1).targets, 2);
}

TEST(ExampleSource, ValidationIsSpacedEvenlyOverAFileOfItsOwn) {
  auto given = options(write("train", numbered(40)), 2);
  given.val_path = write("val", numbered(31, 100));
  given.val_batches = 1;
  for (const int64_t batch_size : {2, 5, 16, 40}) {
    given.batch_size = batch_size;
    const auto source = open(given);
    std::vector<int64_t> seen;
    for (int64_t i = 0; i < source->validation_batches(); ++i) {
      for (const int64_t number : numbers(source->validation_batch(i))) seen.push_back(number);
    }
    EXPECT_THAT(seen, ElementsAre(100, 102, 104, 106, 108, 110, 112, 114, 116, 118, 120, 122, 124,
                                  126, 128, 130))
        << batch_size;
  }
}

TEST(ExampleSource, TheFingerprintKnowsOtherData) {
  const auto fingerprint = [](const std::string& name, const TensorMap& tensors) {
    return open(options(write(name, tensors)))->fingerprint();
  };
  const auto first = fingerprint("first", numbered(10));
  EXPECT_EQ(first, fingerprint("same", numbered(10)));
  EXPECT_NE(first, fingerprint("more", numbered(11)));
  EXPECT_NE(first, fingerprint("other", numbered(10, 1)));
  auto renamed = numbered(10);
  renamed["picture"] = renamed.extract("image").mapped();
  EXPECT_NE(first, fingerprint("renamed", renamed));
}

TEST(ExampleSource, TheFormatIsKnownByTheName) {
  auto given = options(write("auto", numbered(4)));
  EXPECT_TRUE(holds_examples(given));
  given.format = "text";
  EXPECT_FALSE(holds_examples(given));
  given.format = "tensors";
  given.path = "examples";
  EXPECT_TRUE(holds_examples(given));
}

TEST(ExampleSource, RefusesWhatAreNoExamples) {
  const auto given = numbered(4);
  expect_refused(options(write("uneven", {{"a", at::zeros({4})}, {"b", at::zeros({5, 2})}})),
                 "tensor a has 4 examples and b has 5", "uneven.safetensors");
  expect_refused(options(write("scalar", {{"a", at::zeros({4})}, {"s", at::zeros({})}})),
                 "tensor s is a single number", "scalar");
  expect_refused(options(write("none", {})), "holds no tensors", "none");
  expect_refused(options(write("empty", {{"a", at::zeros({0, 3})}})), "holds no examples", "empty");
  expect_refused(options(temporary_folder() + "missing.safetensors"), "missing.safetensors", "");
  auto small = options(write("small", given));
  small.val_fraction = 0.1;
  expect_refused(small, "val_fraction 0.1", "4 examples");
}

TEST(ExampleSource, RefusesValidationOfOtherTensors) {
  auto given = options(write("these", numbered(4)));
  given.val_path = write("shape", {{"number", at::arange(4)}, {"image", at::zeros({4, 3, 2})}});
  expect_refused(given, "an example of image is Float [3, 2], expected Float [2, 3]", "shape");
  given.val_path = write("type", {{"number", at::zeros({4})}, {"image", at::zeros({4, 2, 3})}});
  expect_refused(given, "an example of number is Float", "type");
  given.val_path = write("fewer", {{"number", at::arange(4)}});
  expect_refused(given, "has no tensor image", "fewer");
}

TEST(ExampleSource, RefusesOptionsOfTokens) {
  auto given = options(write("options", numbered(4)));
  given.seq_len = 8;
  expect_refused(given, "data.seq_len", "has no use with data of format tensors");
  given = options(given.path);
  given.tokenizer = "some.model";
  expect_refused(given, "data.tokenizer", "has no use with data of format tensors");
}

}  // namespace
}  // namespace x_transformers::example_source_test
