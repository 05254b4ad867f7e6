// Where sequences are cut.
#include "x_transformers/wrappers/entropy_based_tokenizer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "small_net.h"
#include "x_transformers/core/error.h"

namespace x_transformers::entropy_based_tokenizer_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<int64_t> ends(const at::Tensor& entropies, const at::Tensor& lens,
                          std::optional<int64_t> max_token_size = std::nullopt) {
  const auto found = token_boundaries(entropies.unsqueeze(0), lens, {1.0, max_token_size})[0];
  std::vector<int64_t> places;
  for (int64_t i = 0; i < found.size(0); ++i)
    if (found[i].item<bool>()) places.push_back(i);
  return places;
}

TEST(TokenBoundaries, AreWhereTheEntropyIsHigh) {
  const auto entropies = at::tensor({0., 0., 2., 0., 0., 1., 0., 0.});
  EXPECT_THAT(ends(entropies, {}), ElementsAre(2, 5, 7));
  EXPECT_THAT(ends(entropies, at::tensor({5})), ElementsAre(2, 4));
}

TEST(TokenBoundaries, CutLongTokens) {
  const auto entropies = at::tensor({0., 0., 0., 0., 2., 0., 0., 0., 0., 0.});
  EXPECT_THAT(ends(entropies, {}, 3), ElementsAre(2, 4, 7, 9));
  EXPECT_THAT(ends(entropies, at::tensor({7}), 3), ElementsAre(2, 4, 6));
  EXPECT_THAT(ends(entropies, {}, 1), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

EntropyBasedTokenizer tokenizer(EntropyBasedTokenizerOptions options) {
  at::manual_seed(1);
  return EntropyBasedTokenizer(small_net().ptr(), options);
}

TEST(EntropyBasedTokenizer, SegmentsAreTheSequenceInPieces) {
  auto model = tokenizer({2.5, 4});
  const auto seq = random_tokens(3, 12);
  const auto lens = at::tensor({12, 1, 7}, at::kLong);
  const auto lengths = model->forward(seq, lens);
  EXPECT_TRUE(at::equal(lengths.sum(1), lens));
  EXPECT_LE(lengths.max().item<int64_t>(), 4);
  const auto segments = model->segment(seq, lens);
  for (int64_t row = 0; row < 3; ++row) {
    const auto own = lens[row].item<int64_t>();
    EXPECT_TRUE(at::equal(at::cat(segments[row]), seq[row].narrow(0, 0, own)));
  }
}

TEST(EntropyBasedTokenizer, LeavesTheModeOfTheDecoder) {
  auto model = tokenizer({2.5, std::nullopt});
  model->train();
  model->forward(random_tokens(1, 5));
  EXPECT_TRUE(model->decoder()->is_training());
}

TEST(EntropyBasedTokenizer, Refuses) {
  EXPECT_THAT([] { tokenizer({2.5, 0}); }, ThrowsMessage<InputError>(HasSubstr("max_token_size")));
  auto pooled = small_net_options(LayersKind::encoder);
  pooled.average_pool_embed = true;
  EXPECT_THAT(
      [&] {
        EntropyBasedTokenizer(TransformerWrapper(pooled).ptr(),
                              EntropyBasedTokenizerOptions{2.5, 1});
      },
      ThrowsMessage<InputError>(HasSubstr("decoder.average_pool_embed")));
  auto model = tokenizer({2.5, std::nullopt});
  EXPECT_THAT(
      [&] {
        model->forward(random_tokens(2, 5), at::tensor({5, 6}));
      },
      ThrowsMessage<InputError>("lens: expected lengths of 1 to 5, got 6"));
  EXPECT_THAT(
      [&] {
        model->forward(random_tokens(2, 5), at::tensor({0, 5}));
      },
      ThrowsMessage<InputError>("lens: expected lengths of 1 to 5, got 0"));
  EXPECT_THROW(model->forward(at::randn({2, 5})), InputError);
}

}  // namespace
}  // namespace x_transformers::entropy_based_tokenizer_test
