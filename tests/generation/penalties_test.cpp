#include "x_transformers/generation/penalties.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers::penalties_test {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

at::Tensor row(std::vector<double> values) { return at::tensor(values, at::kFloat).unsqueeze(0); }

TEST(RepetitionPenalty, MakesTokensOfThePromptLessLikely) {
  RepetitionPenalty penalty(2, at::tensor({1, 2, 1}, at::kLong).unsqueeze(0));
  EXPECT_TRUE(penalty.apply(row({4, 4, -4, 0})).equal(row({4, 2, -8, 0})));
}

TEST(RepetitionPenalty, CountsGeneratedTokens) {
  RepetitionPenalty penalty(2, at::tensor({1, 0}, at::kLong).view({2, 1}));
  const auto logits = at::full({2, 3}, 4.0f);
  penalty.apply(logits);
  penalty.add(at::tensor({2, 0}, at::kLong));
  EXPECT_TRUE(penalty.apply(logits).equal(at::cat({row({4, 2, 2}), row({2, 4, 4})})));
}

TEST(RepetitionPenalty, PaddingDoesNotCount) {
  RepetitionPenalty penalty(2, at::tensor({0, 0, 1}, at::kLong).unsqueeze(0),
                            at::tensor({1}, at::kLong));
  EXPECT_TRUE(penalty.apply(row({4, 4, 4})).equal(row({4, 2, 4})));
}

TEST(RepetitionPenalty, TokensOutsideTheOutputVocabularyDoNotCount) {
  RepetitionPenalty penalty(2, at::tensor({-1, 7, 1}, at::kLong).unsqueeze(0));
  EXPECT_TRUE(penalty.apply(row({4, 4, 4})).equal(row({4, 2, 4})));
}

thread_local int64_t reads = 0;

/// Counts the operations that would wait for a device.
std::unique_ptr<at::ObserverContext> count_reads(const at::RecordFunction& call) {
  const std::string_view name = call.name();
  reads += name == "aten::_local_scalar_dense" || name == "aten::nonzero";
  return nullptr;
}

TEST(RepetitionPenalty, ReadsNothingFromTheDevice) {
  RepetitionPenalty penalty(2, at::tensor({1, 2, 1}, at::kLong).unsqueeze(0),
                            at::tensor({2}, at::kLong));
  const auto token = at::tensor({3}, at::kLong);
  const auto logits = row({4, 4, -4, 0});
  at::CallbackHandle handle = at::addThreadLocalCallback(at::RecordFunctionCallback(count_reads));
  reads = 0;
  penalty.apply(logits);
  penalty.add(token);
  penalty.apply(logits);
  EXPECT_EQ(reads, 0);
  logits[0][0].item<float>();
  EXPECT_EQ(reads, 1);
  at::removeCallback(handle);
}

TEST(RepetitionPenalty, RefusesZero) {
  EXPECT_THROW(RepetitionPenalty(0, at::zeros({1, 1}, at::kLong)), InputError);
}

TEST(LogitBias, FillsTheTokensGiven) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(logit_bias_tensor({{"2", -infinity}, {"0", 1.5}}, 3)
                  .equal(row({1.5, 0, -infinity}).squeeze(0)));
}

TEST(LogitBias, RefusesWhatIsNoTokenOrNumber) {
  for (const char* key : {"3", "-1", "x", "1x", ""}) {
    EXPECT_THAT(
        [&] {
          logit_bias_tensor({{key, 1}}, 3);
        },
        ThrowsMessage<InputError>(
            HasSubstr(std::string("expected tokens 0 to 2, got '") + key + "'")));
  }
  EXPECT_THROW(logit_bias_tensor({{"1", std::numeric_limits<double>::infinity()}}, 3), InputError);
  EXPECT_THROW(logit_bias_tensor({{"1", std::numeric_limits<double>::quiet_NaN()}}, 3), InputError);
}

}  // namespace
}  // namespace x_transformers::penalties_test
