// Packed sequences: each as if it were alone.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers::packed_sequences_test {
namespace {

constexpr int64_t kDim = 12, kLength = 9;

Attention make_attention(void (*set)(AttentionOptions&)) {
  at::manual_seed(3);
  AttentionOptions options;
  options.dim = kDim;
  options.dim_head = 4;
  options.heads = 3;
  options.causal = true;
  set(options);
  Attention attention(options);
  attention->eval();
  return attention;
}

at::Tensor run(Attention& attention, const at::Tensor& x, const PackedSequences* packed) {
  AttentionInputs inputs;
  inputs.x = x;
  inputs.packed = packed;
  return attention->forward(inputs).out;
}

struct Variant {
  const char* name;
  void (*set)(AttentionOptions&);
};

class PackedSequencesTest : public testing::TestWithParam<Variant> {};

INSTANTIATE_TEST_SUITE_P(
    Options, PackedSequencesTest,
    testing::Values(
        Variant{"Plain", [](AttentionOptions&) {}},
        Variant{"Encoder", [](AttentionOptions& o) { o.causal = false; }},
        Variant{"MemoryKeyValues", [](AttentionOptions& o) { o.num_mem_kv = 2; }},
        Variant{"ZeroKeyValue", [](AttentionOptions& o) { o.add_zero_kv = true; }},
        Variant{"Sigmoid", [](AttentionOptions& o) { o.sigmoid = true; }},
        Variant{"Hard", [](AttentionOptions& o) { o.hard = true; }},
        Variant{"TalkingHeads", [](AttentionOptions& o) { o.post_talking_heads = true; }},
        Variant{"Window", [](AttentionOptions& o) { o.max_attend_past = 2; }},
        Variant{"DataDependentAlibi", [](AttentionOptions& o) { o.data_dependent_alibi = true; }}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_P(PackedSequencesTest, EachRowHasSequencesOfItsOwn) {
  const at::NoGradGuard no_grad;
  auto packing = make_attention([](AttentionOptions&) {});
  auto options = packing->options();
  GetParam().set(options);
  at::manual_seed(4);
  auto alone_options = options;
  options.flash_pack_seq = true;
  Attention packed_attention(options), alone(alone_options);
  for (auto& item : alone->named_parameters()) {
    packed_attention->named_parameters()[item.key()].copy_(item.value().add_(0.1));
  }
  PackedSequences packed;
  packed.cu_seqlens_q = packed.cu_seqlens_k = at::tensor({0, 4, 9, 9, 0, 2, 3, 9}).view({2, 4});
  const auto x = at::randn({2, kLength, kDim});
  const auto out = run(packed_attention, x, &packed);
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t sequence = 0; sequence < 3; ++sequence) {
      const auto begin = packed.cu_seqlens_q[row][sequence].item<int64_t>();
      const auto length = packed.cu_seqlens_q[row][sequence + 1].item<int64_t>() - begin;
      if (length == 0) continue;
      const auto own = run(alone, x.narrow(0, row, 1).narrow(1, begin, length), nullptr);
      EXPECT_TRUE(at::allclose(out[row].narrow(0, begin, length), own[0], 1e-4, 1e-5))
          << "row " << row << ", sequence " << sequence;
    }
  }
}

TEST(PackedSequences, TokensAfterTheLastBoundaryAreASequence) {
  PackedSequences packed;
  packed.cu_seqlens_q = packed.cu_seqlens_k = at::tensor({0, 2});
  const auto visible = packed.mask(4, 4)[0][0].to(at::kLong);
  EXPECT_TRUE(
      visible.equal(at::tensor({1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1}).view({4, 4})));
}

TEST(PackedSequences, WindowAlignsTheEndsOfQueriesAndKeys) {
  PackedSequences packed;
  packed.cu_seqlens_q = at::tensor({0, 2});
  packed.cu_seqlens_k = at::tensor({0, 4});
  packed.window_size = {1, 0};
  EXPECT_TRUE(packed.mask(2, 4)[0][0].to(at::kLong).equal(
      at::tensor({0, 1, 1, 0, 0, 0, 1, 1}).view({2, 4})));
}

std::string refusal(const PackedSequences& packed, bool causal) {
  try {
    validate(packed, causal);
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST(PackedSequences, RefusesBoundariesThatDoNotFit) {
  PackedSequences packed;
  packed.cu_seqlens_q = at::tensor({0, 3, 7});
  EXPECT_NE(refusal(packed, false).find("cu_seqlens_k: is needed"), std::string::npos);
  packed.cu_seqlens_k = at::tensor({0, 4, 7});
  EXPECT_EQ(refusal(packed, false), "");
  EXPECT_NE(refusal(packed, true).find("must be equal"), std::string::npos);
  packed.cu_seqlens_k = at::tensor({0, 4, 2});
  EXPECT_NE(refusal(packed, false).find("never fall"), std::string::npos);
  packed.cu_seqlens_k = at::tensor({0, 7});
  EXPECT_NE(refusal(packed, false).find("one shape"), std::string::npos);
}

TEST(PackedSequences, AreReadWithTheOptionAlone) {
  auto packing = make_attention([](AttentionOptions& o) { o.flash_pack_seq = true; });
  auto plain = make_attention([](AttentionOptions&) {});
  PackedSequences packed;
  packed.cu_seqlens_q = packed.cu_seqlens_k = at::tensor(std::vector<int64_t>{0, kLength});
  const auto x = at::randn({1, kLength, kDim});
  const CollectedWarnings warnings;
  EXPECT_TRUE(run(packing, x, nullptr).equal(run(plain, x, nullptr)));
  EXPECT_TRUE(run(plain, x, &packed).equal(run(plain, x, nullptr)));
  EXPECT_THAT(warnings.messages(),
              testing::ElementsAre("flash_pack_seq: changes nothing, as there are no "
                                   "flash_pack_seq_kwargs",
                                   "flash_pack_seq_kwargs: change nothing, "
                                   "flash_pack_seq is off"));
}

}  // namespace
}  // namespace x_transformers::packed_sequences_test
