#include "x_transformers/generation/align.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "generation/fake_session.h"
#include "x_transformers/core/error.h"

namespace x_transformers::align_test {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(AlignRight, MovesPromptsToTheEnd) {
  const auto prompts = tokens({{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 1, 2, 3}});
  EXPECT_EQ(rows_of(align_right(prompts, at::tensor({1, 4, 3}, at::kLong), 99)),
            rows_of(tokens({{99, 99, 99, 1}, {5, 6, 7, 8}, {99, 9, 1, 2}})));
  EXPECT_EQ(rows_of(align_right(prompts, at::tensor({1, 2, 3}, at::kInt), -1)),
            rows_of(tokens({{-1, -1, -1, 1}, {-1, -1, 5, 6}, {-1, 9, 1, 2}})));
}

TEST(AlignRight, TakesVectorsAtEachPosition) {
  const auto vectors = at::arange(1, 9, at::kFloat).view({2, 2, 2});
  const auto aligned = align_right(vectors, at::tensor({1, 2}, at::kLong));
  EXPECT_TRUE(aligned.equal(at::tensor({0, 0, 1, 2, 5, 6, 7, 8}, at::kFloat).view({2, 2, 2})));
}

TEST(AlignRight, ReadsNothingFromTheDevice) {
  const auto meta = at::TensorOptions(at::kMeta).dtype(at::kLong);
  EXPECT_EQ(align_right(at::empty({2, 5}, meta), at::empty({2}, meta)).size(1), 5);
}

TEST(AlignRight, RefusesLengthsThatDoNotFit) {
  const auto prompts = tokens({{1, 2, 3}, {4, 5, 6}});
  const auto refused = [&](const at::Tensor& lens, const char* message) {
    EXPECT_THAT([&] { align_right(prompts, lens); }, ThrowsMessage<InputError>(HasSubstr(message)));
  };
  refused(at::tensor({1, 4}, at::kLong), "prompt_lens[1]: expected 1 to 3, got 4");
  refused(at::tensor({0, 3}, at::kLong), "prompt_lens[0]: expected 1 to 3, got 0");
  refused(at::tensor({1, 2, 3}, at::kLong), "one length for each of 2 prompts, got shape [3]");
  refused(at::tensor({1.0, 2.0}, at::kFloat), "expected integers");
  EXPECT_THROW(align_right(prompts[0], at::tensor({1}, at::kLong)), InputError);
}

TEST(JoinPrompts, PadsAtTheRight) {
  const auto batch =
      join_prompts({at::tensor({1, 2}, at::kLong), at::tensor({3, 4, 5}, at::kInt)}, 9);
  EXPECT_EQ(rows_of(batch.prompts), rows_of(tokens({{1, 2, 9}, {3, 4, 5}})));
  EXPECT_TRUE(batch.lens.equal(at::tensor({2, 3}, at::kLong)));
}

TEST(JoinPrompts, RefusesWhatIsNoPrompt) {
  const auto prompt = at::tensor({1, 2}, at::kLong);
  EXPECT_THROW(join_prompts({}), InputError);
  EXPECT_THROW(join_prompts({prompt, at::empty({0}, at::kLong)}), InputError);
  EXPECT_THROW(join_prompts({prompt.unsqueeze(0)}), InputError);
  EXPECT_THROW(join_prompts({prompt.to(at::kFloat)}), InputError);
}

}  // namespace
}  // namespace x_transformers::align_test
