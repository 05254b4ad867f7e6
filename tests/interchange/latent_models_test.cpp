// Models that draw what conditions them, and tokenizers and wrappers with nets of their own, as
// files and arguments spell them.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers::latent_models_test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

const Json kSizes = {
    {"num_tokens", 13}, {"dim", 16}, {"heads", 2}, {"attn_dim_head", 8}, {"max_seq_len", 12}};

Json with(Json config, const Json& more) {
  config.update(more);
  return config;
}

Json free_transformer() {
  return with(kSizes, {{"type", "FreeTransformer"},
                       {"dec_head_depth", 1},
                       {"dec_tail_depth", 1},
                       {"latent_bits", 3}});
}

Json gpt_vae() {
  return with(kSizes, {{"type", "GPTVAE"}, {"depth", 1}, {"enc_depth", 1}, {"dim_latent", 3}});
}

Json net() {
  return {{"type", "TransformerWrapper"},
          {"num_tokens", 13},
          {"max_seq_len", 12},
          {"attn_layers", {{"type", "Decoder"}, {"dim", 16}, {"depth", 1}, {"heads", 2}}}};
}

std::string refusal(const Json& config, const std::string& mode = "", const TensorMap& inputs = {},
                    const Json& kwargs = Json::object()) {
  try {
    const auto model = build_model(config);
    model->module().eval();
    if (!mode.empty()) run_model(*model, mode, inputs, kwargs, false);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TensorMap call(const Json& config, const std::string& mode, const TensorMap& inputs,
               const Json& kwargs = Json::object()) {
  at::manual_seed(1);
  const auto model = build_model(config);
  model->module().eval();
  return run_model(*model, mode, inputs, kwargs, false);
}

const TensorMap kPrompts = {{"prompts", at::arange(4).unsqueeze(0)}};
const Json kGreedy = {{"seq_len", 6}, {"temperature", 0}};

TEST(LatentModels, OptionsOfAStackAreRefusedWhereTheyStand) {
  EXPECT_THAT(refusal(with(gpt_vae(), {{"enc_kwargs", {{"ff_gluu", true}}}})),
              StartsWith("config.enc_kwargs.ff_gluu: unknown key"));
  EXPECT_THAT(refusal(with(gpt_vae(), {{"dec_kwargs", {{"rotary_xpos", 3}}}})),
              StartsWith("config.dec_kwargs.rotary_xpos"));
  EXPECT_THAT(
      refusal(with(gpt_vae(), {{"enc_kwargs", {{"pre_norm", false}, {"sandwich_norm", true}}}})),
      StartsWith("config.enc_kwargs.sandwich_norm"));
  EXPECT_THAT(refusal(with(gpt_vae(), {{"sandwich_norm", true}, {"pre_norm", false}})),
              StartsWith("config.sandwich_norm"));
  EXPECT_THAT(refusal(with(free_transformer(), {{"use_rmsnorm", true}})),
              StartsWith("config.use_rmsnorm: unknown key"));
  EXPECT_THAT(refusal(with(free_transformer(), {{"binary_mapper_kwargs", {{"bits", 2}}}})),
              StartsWith("config.binary_mapper_kwargs.bits: unknown key"));
  EXPECT_THAT(refusal(with(free_transformer(), {{"latent_bits", 0}})),
              StartsWith("config.latent_bits: expected 1 to 24"));
}

TEST(LatentModels, ASpelledOutConfigIsTheSame) {
  const auto config = with(gpt_vae(), {{"enc_kwargs", {{"ff_glu", true}}}, {"attn_flash", true}});
  const auto spelled = spell_out(config);
  EXPECT_EQ(spelled["enc_kwargs"]["ff_glu"], true);
  EXPECT_EQ(spelled["enc_kwargs"]["attn_flash"], true);
  EXPECT_FALSE(spelled.contains("dec_kwargs"));
  EXPECT_EQ(spell_out(spelled), spelled);
}

TEST(LatentModels, LatentsMayBeNumbersOfTheKwargs) {
  const auto of_tensor = [](Json config, const at::Tensor& latents) {
    return call(config, "generate", {{"prompts", kPrompts.at("prompts")}, {"latents", latents}},
                kGreedy)
        .at("out");
  };
  const auto of_numbers = [](const Json& config, const Json& latents) {
    return call(config, "generate", kPrompts, with(kGreedy, {{"latents", latents}})).at("out");
  };
  EXPECT_TRUE(at::equal(of_tensor(gpt_vae(), at::tensor({1.f, -2.f, 0.5f})),
                        of_numbers(gpt_vae(), {1, -2, 0.5})));
  EXPECT_TRUE(
      at::equal(of_tensor(free_transformer(), at::tensor({5})), of_numbers(free_transformer(), 5)));
  EXPECT_THAT(refusal(free_transformer(), "generate", kPrompts, with(kGreedy, {{"latents", 8}})),
              HasSubstr("latents: 8"));
  EXPECT_THAT(refusal(gpt_vae(), "generate", kPrompts, with(kGreedy, {{"latents", {{1, 2}, {3}}}})),
              HasSubstr("kwargs.latents: expected a number, or arrays of numbers of one size"));
}

TEST(LatentModels, TokensOutOfRangeAreNamed) {
  const auto seq = at::tensor({1, 2, 13, 4}, at::kLong).unsqueeze(0);
  EXPECT_THAT(refusal(free_transformer(), "forward", {{"seq", seq}}),
              StartsWith("seq: 13 at position [0, 2]"));
  EXPECT_THAT(refusal(gpt_vae(), "forward", {{"seq", seq}}),
              StartsWith("seq: 13 at position [0, 2]"));
  const Json belief = {{"type", "BeliefStateWrapper"}, {"forward_decoder", net()}};
  EXPECT_THAT(refusal(belief, "forward", {{"seq", seq}}), StartsWith("seq: 13 at position [0, 2]"));
  const auto padded = at::tensor({1, 2, 3, -1}, at::kLong).unsqueeze(0);
  EXPECT_EQ(refusal(free_transformer(), "forward", {{"seq", padded}}), "");
  EXPECT_EQ(refusal(gpt_vae(), "forward", {{"seq", padded}}), "");
}

TEST(LatentModels, ArgumentsOfADecoderAreRefusedAsItsOwn) {
  const Json config = {
      {"type", "EntropyBasedTokenizer"}, {"decoder", net()}, {"entropy_threshold", 2}};
  const TensorMap seq = {{"seq", at::arange(6).unsqueeze(0)}};
  EXPECT_EQ(refusal(config, "forward", seq), "");
  EXPECT_THAT(refusal(config, "forward", seq, {{"decoder_forward_kwargs", {{"maskk", true}}}}),
              HasSubstr("unknown argument 'maskk'"));
  auto given = seq;
  given["decoder_forward_kwargs.sum_embeds"] = at::zeros({1, 5, 16});
  EXPECT_THAT(refusal(config, "forward", given), HasSubstr("sum_embeds"));
}

TEST(LatentModels, NetsThatDoNotFitAreRefused) {
  EXPECT_THAT(refusal({{"type", "UniversalPretrainWrapper"},
                       {"model", net()},
                       {"seq_len", 12},
                       {"data_generator",
                        {{"type", "SyntheticDataGenerator"}, {"dim", 4}, {"num_tokens", 9}}}}),
              StartsWith("config.data_generator.num_tokens: expected that of model, 13, got 9"));
  EXPECT_THAT(
      refusal({{"type", "UniversalPretrainWrapper"},
               {"model", net()},
               {"data_generator", {{"type", "GRU"}, {"input_size", 4}, {"hidden_size", 4}}}}),
      StartsWith("config.data_generator.type"));
  EXPECT_THAT(refusal({{"type", "BeliefStateWrapper"},
                       {"forward_decoder", net()},
                       {"text_head", {{"type", "Linear"}, {"in_features", 32}}}}),
              StartsWith("config.text_head.out_features"));
  EXPECT_THAT(refusal({{"type", "NeoMLP"}, {"dim_in", 2}}), HasSubstr("is needed"));
}

}  // namespace
}  // namespace x_transformers::latent_models_test
