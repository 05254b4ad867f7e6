// A new input is added in one place, the field list of its struct: what is done with inputs
// follows from there.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/inputs.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/given_cache.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/step_inputs.h"

namespace x_transformers::inputs_test {
namespace {

using testing::ElementsAre;

/// A stack's inputs and a loudness of each token, for its feed-forwards.
struct LoudInputs : AttentionLayersInputs {
  at::Tensor loudness;  ///< [b, n, dim]

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    AttentionLayersInputs::fields(self, v);
    v("loudness", self.loudness,
      {.kind = TensorKind::floating,
       .axes = {Axis::batch, Axis::tokens, Axis::dim},
       .beside_cache = BesideCache::cut,
       .read_by = {Reader::feed_forward}});
  }
};

LoudInputs loud(at::IntArrayRef shape) {
  LoudInputs inputs;
  inputs.loudness = at::randn(shape);
  return inputs;
}

std::string message(const std::function<void()>& act) {
  try {
    act();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(NewInput, IsChecked) {
  AxisSizes sizes;
  sizes[Axis::batch] = 2;
  sizes[Axis::tokens] = 5;
  sizes[Axis::dim] = 16;
  EXPECT_EQ(message([&] { require_inputs(loud({2, 5, 16}), sizes); }), "");
  EXPECT_EQ(message([&] { require_inputs(loud({1, 5, 16}), sizes); }), "");
  EXPECT_EQ(message([&] {
              require_inputs(loud({2, 4, 16}), sizes);
            }),
            "loudness: expected floats [batch = 2, seq = 5, dim = 16], got Float [2, 4, 16]");
  auto inputs = loud({2, 5, 16});
  inputs.loudness = inputs.loudness.to(at::kLong);
  EXPECT_EQ(message([&] { require_inputs(inputs, sizes); }),
            "loudness: expected floats [batch = 2, seq = 5, dim = 16], got Long [2, 5, 16]");
}

TEST(NewInput, HasBatchEntriesThatAreCountedAndReordered) {
  EXPECT_EQ(count_batch_entries(loud({3, 5, 16})), 3);
  EXPECT_EQ(count_batch_entries(loud({1, 5, 16})), 1);
  auto inputs = loud({3, 5, 16});
  const auto before = inputs.loudness;
  reorder_batch(inputs, at::tensor({2, 0}), 3);
  EXPECT_TRUE(inputs.loudness.equal(at::stack({before[2], before[0]})));
}

TEST(NewInput, IsCutToTheTokensOfAStep) {
  auto inputs = loud({2, 9, 16});
  const auto before = inputs.loudness;
  TokenSpan span;
  span.begin = 4;
  span.count = 2;
  span.prefix = 1;
  span.has_prefix = false;
  cut_to_step(inputs, span);
  EXPECT_TRUE(inputs.loudness.equal(before.narrow(1, 5, 2)));
  auto whole = loud({2, 4, 16});
  EXPECT_EQ(message([&] { cut_to_step(whole, span); }),
            "loudness: has entries for 3 tokens, but 6 are decoded, and it cannot grow: give one "
            "for each token, prompt and generated");
}

TEST(NewInput, IsCutToTheNewTokensOfAGivenCache) {
  auto inputs = loud({2, 9, 16});
  const auto before = inputs.loudness;
  NewTokens{/*count=*/2, /*all=*/9, /*prefix=*/0}.cut(inputs);
  EXPECT_TRUE(inputs.loudness.equal(before.narrow(1, 7, 2)));
}

TEST(NewInput, IsDroppedWithAWarningWhereNothingReadsIt) {
  ReaderCounts running;
  running[Reader::self_attention] = 2;
  auto inputs = loud({2, 5, 16});
  const CollectedWarnings warnings;
  drop_unread_inputs(inputs, running);
  EXPECT_FALSE(inputs.loudness.defined());
  EXPECT_THAT(warnings.messages(),
              ElementsAre("loudness: changes nothing, there is no feed-forward"));
  running[Reader::feed_forward] = 1;
  inputs = loud({2, 5, 16});
  drop_unread_inputs(inputs, running);
  EXPECT_TRUE(inputs.loudness.defined());
}

TEST(GivenMask, OfZerosAndOnesIsTakenAsBool) {
  const auto model = build_model(Json::parse(R"({"type": "TransformerWrapper", "num_tokens": 11,
      "max_seq_len": 8, "attn_layers": {"type": "Encoder", "dim": 16, "depth": 1, "heads": 2,
      "attn_dim_head": 8}})"));
  const auto x = at::randint(11, {2, 4});
  const auto mask = at::tensor({1, 1, 0, 0, 1, 1, 1, 0}, at::kLong).view({2, 4});
  const auto run = [&](const at::Tensor& given) {
    return run_model(*model, "forward", {{"x", x}, {"mask", given}}, Json::object(), false)
        .at("out");
  };
  const auto expected = run(mask.to(at::kBool));
  EXPECT_TRUE(at::equal(run(mask), expected));
  EXPECT_TRUE(at::equal(run(mask.to(at::kByte)), expected));
  EXPECT_THAT([&] { run(mask * 2); },
              testing::ThrowsMessage<InputError>(testing::HasSubstr(
                  "mask: expected true or false (bool, or integers 0 and 1), got 2 at position "
                  "[0, 0]")));
  EXPECT_THROW(run(mask.to(at::kFloat)), InputError);
}

TEST(GivenMasks, OfMemoriesAreTakenAlike) {
  const auto layers = Json::parse(R"({"type": "Decoder", "dim": 16, "depth": 1, "heads": 2,
      "attn_dim_head": 8})");
  const Json wrapper = {{"type", "TransformerWrapper"},
                        {"num_tokens", 11},
                        {"max_seq_len", 8},
                        {"max_mem_len", 4},
                        {"attn_layers", layers}};
  const auto mask = at::tensor({0, 1, 1, 1, 1, 0}, at::kLong).view({2, 3});
  const auto mems = at::randn({2, 3, 16});
  for (const auto& [config, x] :
       {std::pair{wrapper, at::randint(11, {2, 4})}, {layers, at::randn({2, 4, 16})}}) {
    const auto model = build_model(config);
    const auto run = [&](const at::Tensor& given) {
      const TensorMap inputs = {{"x", x}, {"mems.0", mems}, {"mem_masks.0", given}};
      return run_model(*model, "forward", inputs, Json::object(), false).at("out");
    };
    EXPECT_TRUE(at::equal(run(mask), run(mask.to(at::kBool))));
    EXPECT_THAT([&] { run(mask * 3); },
                testing::ThrowsMessage<InputError>(testing::HasSubstr(
                    "mem_masks.0: expected true or false (bool, or integers 0 and 1), got 3 at "
                    "position [0, 1]")));
  }
}

TEST(NewInput, IsTakenFromFilesByItsName) {
  const auto loudness = at::randn({2, 5, 16});
  Arguments arguments({{"loudness", loudness}}, Json::object());
  LoudInputs inputs;
  take_inputs(arguments, inputs);
  EXPECT_TRUE(inputs.loudness.equal(loudness));
  EXPECT_NO_THROW(arguments.finish());

  Arguments misspelled({{"loudnes", loudness}}, Json::object());
  take_inputs(misspelled, inputs);
  EXPECT_EQ(message([&] { misspelled.finish(); }),
            "inputs: unknown argument 'loudnes'; the nearest known one is 'loudness'");
}

}  // namespace
}  // namespace x_transformers::inputs_test
