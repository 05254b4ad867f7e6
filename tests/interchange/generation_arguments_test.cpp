// The arguments of generate and beam_search are those that `options generate` lists.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/option_help.h"
#include "x_transformers/generation/beam_search.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {
namespace {

const auto kWriter = Json::parse(R"({"type": "AutoregressiveWrapper", "net": {
    "type": "TransformerWrapper", "num_tokens": 13, "max_seq_len": 16,
    "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2}}})");

at::Tensor written(const Json& kwargs) {
  at::manual_seed(5);
  const auto model = build_model(kWriter);
  at::manual_seed(6);
  const TensorMap inputs{{"prompts", at::arange(1, 4).view({1, 3})}};
  return run_model(*model, "generate", inputs, kwargs, false).at("out");
}

template <class T>
void expect_all_are_taken(const Json& values, Json kwargs) {
  for (const auto& line : options_help<T>()) {
    SCOPED_TRACE(line.name);
    ASSERT_TRUE(values.contains(line.name)) << "the test has no value for it";
    auto given = kwargs;
    given[line.name] = values[line.name];
    EXPECT_NO_THROW(written(given));
  }
}

TEST(GenerationArguments, AreAllThoseThatAreListed) {
  expect_all_are_taken<GenerateOptions>(
      Json::parse(R"({"seq_len": 3, "temperature": 0.5, "eos_token": 4, "filter_logits_fn": "min_p",
          "filter_kwargs": {}, "top_k": 2, "top_p": 0.9, "top_a": 0.1, "min_p": 0.1,
          "repetition_penalty": 1.3, "logit_bias": {"4": 2.0}, "seed": 7})"),
      Json{{"seq_len", 4}});
}

TEST(GenerationArguments, OfBeamSearchAreAllThoseThatAreListed) {
  expect_all_are_taken<BeamSearchOptions>(
      Json::parse(R"({"seq_len": 3, "beams": 2, "return_beams_and_scores": false, "eos_token": 4,
          "temperature": 0.5, "stochastic": true, "filter_logits_fn": "top_k", "filter_kwargs": {},
          "length_penalty": 0.5, "logit_bias": {"4": 2.0}, "seed": 7})"),
      Json{{"seq_len", 4}, {"method", "beam_search"}});
}

TEST(GenerationArguments, DoWhatTheySay) {
  const auto greedy = written({{"seq_len", 6}, {"temperature", 0.0}});
  EXPECT_TRUE(at::equal(written({{"seq_len", 6}, {"top_k", 1}}), greedy));
  EXPECT_TRUE(written({{"seq_len", 6}, {"logit_bias", {{"4", 1e4}}}}).eq(4).all().item<bool>());
  EXPECT_THROW(written({{"seq_len", 6}, {"temperature", -1.0}}), InputError);
  EXPECT_THROW(written({{"seq_len", 6}, {"top_p", 7.0}}), InputError);
}

}  // namespace
}  // namespace x_transformers
