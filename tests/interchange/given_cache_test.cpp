// A cache given among the inputs of a call, as Python's: what of it is read, and what is refused.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers::given_cache_test {
namespace {

constexpr int64_t kOld = 4;

Json stack(const std::string& options) {
  auto config =
      Json::parse(R"({"type": "Decoder", "dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8})");
  config.update(Json::parse(options));
  return config;
}

const Json kGru = Json::parse(R"({"attn_hybrid_fold_axial_dim": 1, "attn_hybrid_module":
    {"type": "GRU", "input_size": 16, "hidden_size": 16, "batch_first": true}})");

/// The last of five tokens, and a cache of the others in both attentions.
TensorMap last_token() {
  TensorMap inputs = {{"x", at::randn({2, kOld + 1, 16})}};
  for (const char* place : {"0.cached_kv.0", "0.cached_kv.1", "1.cached_kv.0", "1.cached_kv.1"}) {
    inputs[std::string("cache.attn_intermediates.") + place] = at::randn({2, 2, kOld, 8});
  }
  return inputs;
}

TensorMap with(TensorMap inputs, const TensorMap& more) {
  for (const auto& [name, tensor] : more) inputs[name] = tensor;
  return inputs;
}

at::Tensor out(Model& model, const TensorMap& inputs, const Json& kwargs = Json::object()) {
  model.module().eval();
  return run_model(model, "forward", inputs, kwargs, false).at("out");
}

std::string refusal(const Json& config, const TensorMap& inputs,
                    const Json& kwargs = Json::object()) {
  const auto model = build_model(config);
  try {
    out(*model, inputs, kwargs);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

/// The last of these tokens, and what the call of the others has cached.
TensorMap last_of(Model& model, const TensorMap& whole, const TensorMap& before) {
  model.module().eval();
  auto inputs = whole;
  for (const auto& [name, tensor] :
       run_model(model, "forward", before, Json{{"return_hiddens", true}}, false)) {
    if (const auto at = name.find("attn_intermediates."); name.find("cached_kv") != name.npos)
      inputs["cache." + name.substr(at)] = tensor;
  }
  return inputs;
}

TEST(GivenCache, PositionsOfAlibiAreThoseOfCachedKeysToo) {
  const auto config = stack(R"({"alibi_pos_bias": true})");
  const auto model = build_model(config);
  const auto x = at::randn({2, kOld + 1, 16});
  const auto pos = at::tensor({0, 2, 3, 7, 8});
  for (const auto& each : {pos, at::stack({pos, pos + pos}),
                           at::stack({pos, 3 * pos, pos, pos}).view({2, 2, kOld + 1})}) {
    const auto whole = out(*model, {{"x", x}, {"pos", each}});
    const auto expected = whole.narrow(1, kOld, 1);
    const auto inputs = last_of(*model, {{"x", x}, {"pos", each}},
                                {{"x", x.narrow(1, 0, kOld)}, {"pos", each.narrow(-1, 0, kOld)}});
    EXPECT_TRUE(at::allclose(out(*model, inputs), expected, 1e-4, 1e-5)) << each.sizes();
    // Of more positions the last count.
    const auto more = with(inputs, {{"pos", at::cat({each.narrow(-1, 0, 2), each}, -1)}});
    EXPECT_TRUE(at::allclose(out(*model, more), expected, 1e-4, 1e-5)) << each.sizes();
    EXPECT_THAT(refusal(config, with(inputs, {{"pos", each.narrow(-1, kOld, 1)}})),
                testing::HasSubstr("pos: beside a cache a position bias takes 5 positions"));
  }
}

/// As in Python.
TEST(GivenCache, OfMorePositionsThanTheContextHasTheLastCount) {
  const auto model = build_model(stack(R"({"cross_attend": true, "rotary_pos_emb": true})"));
  const auto context_pos = at::tensor({3, 6, 9, 12});
  const TensorMap inputs = {{"x", at::randn({2, kOld + 1, 16})},
                            {"context", at::randn({2, 4, 16})},
                            {"context_pos", context_pos}};
  const auto expected = out(*model, inputs);
  EXPECT_FALSE(at::allclose(out(*model, with(inputs, {{"context_pos", at::arange(4)}})), expected));
  const auto more = at::cat({at::tensor({40, 50}), context_pos});
  EXPECT_TRUE(at::equal(out(*model, with(inputs, {{"context_pos", more}})), expected));
}

TEST(GivenCache, HybridModulesGoOnFromTheirState) {
  auto config = stack("{}");
  config.update(kGru);
  const auto model = build_model(config);
  const auto states =
      with(last_token(), {{"cache.attn_intermediates.0.hybrid_hidden", at::randn({1, 2, 16})},
                          {"cache.attn_intermediates.1.hybrid_hidden", at::randn({1, 2, 16})}});
  for (const char* layer : {"0", "1"}) {
    const auto name = std::string("cache.attn_intermediates.") + layer + ".hybrid_hidden";
    EXPECT_FALSE(at::allclose(out(*model, states),
                              out(*model, with(states, {{name, at::randn({1, 2, 16})}}))))
        << name;
  }
}

TEST(GivenCache, OneAttentionOfAStackIsThatAttentionAlone) {
  auto layer =
      Json::parse(R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8, "causal": true,
      "hybrid_fold_axial_dim": 1, "hybrid_module": {"type": "GRU", "input_size": 16, "hidden_size": 16,
      "batch_first": true}})");
  auto config = stack(R"({"custom_layers": ["a"], "pre_norm_has_final_norm": false})");
  config.erase("depth");
  config.update(kGru);
  const auto lone = build_model(layer), whole = build_model(config);
  const auto from = lone->module().named_parameters();
  torch::NoGradGuard no_grad;
  for (auto& item : whole->module().named_parameters()) {
    const auto name = item.key().substr(std::string("layers.0.1.").size());
    if (const auto* value = from.find(name)) item.value().copy_(*value);
  }
  const auto x = at::randn({2, 1, 16}), k = at::randn({2, 2, kOld, 8}),
             v = at::randn({2, 2, kOld, 8}), hidden = at::randn({1, 2, 16});
  const auto expected = out(*lone, {{"x", at::layer_norm(x, {16})},
                                    {"cache.cached_kv.0", k},
                                    {"cache.cached_kv.1", v},
                                    {"cache.hybrid_hidden", hidden}});
  const auto got = out(*whole, {{"x", x},
                                {"cache.attn_intermediates.0.cached_kv.0", k},
                                {"cache.attn_intermediates.0.cached_kv.1", v},
                                {"cache.attn_intermediates.0.hybrid_hidden", hidden}});
  EXPECT_TRUE(at::allclose(got, expected + x, 1e-5, 1e-6));
}

TEST(GivenCache, EveryNameIsReadOrRefused) {
  const auto config = stack("{}");
  ASSERT_EQ(refusal(config, last_token()), "");
  const struct {
    const char* name;
    const char* nearest;
  } cases[] = {
      {"cache.nonsense.5", "'cache."},
      {"cache.attn_intermediate.0.cached_kv.0", "'cache.attn_intermediates.0.cached_kv.0'"},
      {"cache.attn_intermediates.0.cached_kv.2", "'cache.attn_intermediates.0.cached_kv.0'"},
      {"cache.attn_intermediates.0.hybrid_hiden", "'cache.attn_intermediates.0.hybrid_hidden'"},
      {"cache.cache_lenght", "'cache.cache_length'"},
  };
  for (const auto& [name, nearest] : cases) {
    const auto message = refusal(config, with(last_token(), {{name, at::randn({2, 2, kOld, 8})}}));
    EXPECT_NE(message.find(std::string("inputs: unknown argument '") + name +
                           "'; the nearest known one is " + nearest),
              std::string::npos)
        << message;
  }
}

TEST(GivenCache, OfAttentionsThatDoNotExistChangesNothing) {
  // Python takes the cache of a deeper stack.
  const auto model = build_model(stack("{}"));
  const auto usual = last_token();
  auto more = usual;
  for (const char* part : {"0", "1"})
    more[std::string("cache.attn_intermediates.2.cached_kv.") + part] = at::randn({2, 2, kOld, 8});
  const CollectedWarnings warnings;
  EXPECT_TRUE(at::equal(out(*model, more), out(*model, usual)));
  EXPECT_THAT(warnings.messages(),
              testing::ElementsAre(testing::HasSubstr("there are no more attentions")));
}

TEST(GivenCache, WhatACallGivesBackIsTakenWhole) {
  const auto model = build_model(stack(R"({"attn_flash": false})"));
  const auto inputs = last_token();
  const auto more =
      with(inputs, {{"cache.hiddens.0", at::randn({2, kOld, 16})},
                    {"cache.last_hidden", at::randn({2, kOld, 16})},
                    {"cache.cache_length", at::tensor(kOld)},
                    {"cache.attn_intermediates.0.values", at::randn({2, 2, kOld, 8})}});
  EXPECT_TRUE(at::equal(out(*model, inputs), out(*model, more)));
}

TEST(GivenCache, ItsLengthIsThatOfItsTokens) {
  EXPECT_EQ(refusal(stack("{}"), with(last_token(), {{"cache.cache_length", at::tensor(3)}})),
            "cache.cache_length: expected the tokens that the attentions have, 4, got 3");
  auto inputs = last_token();
  inputs.erase("cache.attn_intermediates.0.cached_kv.0");
  EXPECT_EQ(refusal(stack("{}"), inputs),
            "cache.attn_intermediates.0.cached_kv.0: is needed where there is "
            "cache.attn_intermediates.0.cached_kv.1");
}

TEST(GivenCache, KeysAndValuesAloneAreRefusedWhereLayersNeedMore) {
  const struct {
    const char* options;
    const char* reason;
  } cases[] = {
      {R"({"shift_tokens": 1})", "shift_tokens puts features of earlier tokens"},
      {R"({"shift_tokens": [0, 1, 0, 0]})", "shift_tokens puts features of earlier tokens"},
      {R"({"attn_selective": true})", "attn_selective changes the scores"},
      {R"({"attn_data_dependent_alibi": true})", "attn_data_dependent_alibi needs the gates"},
      {R"({"attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true})",
       "attn_data_dependent_alibi needs the gates"},
      {R"({"attn_orthog_projected_values": true})", "attn_orthog_projected_values is taken over"},
      {R"({"attn_orthog_projected_values_per_head": true})",
       "attn_orthog_projected_values_per_head is taken over"},
      {R"({"attn_hybrid_fold_axial_dim": 1, "attn_hybrid_module":
           {"type": "CausalConv1d", "dim": 16, "dim_out": 16, "kernel_size": 3}})",
       "attn_hybrid_module needs its state, hybrid_hidden"},
  };
  for (const auto& [options, reason] : cases) {
    const auto message = refusal(stack(options), last_token());
    EXPECT_EQ(message.find(std::string("cache: ") + reason), 0U) << options << ": " << message;
    // The same in a model.
    auto inputs = last_token();
    inputs["x"] = at::arange(2 * (kOld + 1)).view({2, kOld + 1});
    const Json net = {{"type", "TransformerWrapper"},
                      {"num_tokens", 17},
                      {"max_seq_len", 16},
                      {"attn_layers", stack(options)}};
    EXPECT_EQ(refusal(net, inputs).find(std::string("cache: attn_layers.") + reason), 0U)
        << options << ": " << refusal(net, inputs);
    // An empty cache lacks nothing.
    for (auto& [name, tensor] : inputs) {
      if (name != "x") tensor = tensor.narrow(2, 0, 0);
    }
    EXPECT_EQ(refusal(net, inputs, {{"cache_age", 0}}), "") << options;
  }
}

TEST(GivenCache, LoneAttentionsRefuseTheSame) {
  const auto config = [](const std::string& option) {
    return Json::parse(
        R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8, "causal": true, )" + option +
        "}");
  };
  const TensorMap inputs = {{"x", at::randn({2, 1, 16})},
                            {"cache.cached_kv.0", at::randn({2, 2, kOld, 8})},
                            {"cache.cached_kv.1", at::randn({2, 2, kOld, 8})}};
  ASSERT_EQ(refusal(config(R"("head_scale": true)"), inputs), "");
  for (const char* option : {"selective", "data_dependent_alibi", "orthog_projected_values"})
    EXPECT_NE(refusal(config(std::string("\"") + option + "\": true"), inputs).find("cache: "),
              std::string::npos)
        << option;
  EXPECT_NE(refusal(config(R"("head_scale": true)"),
                    with(inputs, {{"cache.cached_kv.2", at::zeros({1})}}))
                .find("expected keys and values, got 3 tensors"),
            std::string::npos);
}

/// Logits of the last token of five, beside what a call gave back of the others, as far from those
/// of one call as they can be.
double cached_difference(const Json& layers, const TensorMap& others) {
  torch::manual_seed(3);
  const auto model = build_model({{"type", "TransformerWrapper"},
                                  {"num_tokens", 17},
                                  {"max_seq_len", 16},
                                  {"use_abs_pos_emb", false},
                                  {"attn_layers", layers}});
  model->module().eval();
  const auto x = at::randint(17, {2, kOld + 1}, at::kLong);
  auto before = with(others, {{"x", x.narrow(1, 0, kOld)}}), now = with(others, {{"x", x}});
  const auto whole = out(*model, now);
  for (const auto& [name, tensor] :
       run_model(*model, "forward", before, {{"return_intermediates", true}}, false)) {
    if (name.find("cached_kv") == std::string::npos) continue;
    now["cache" + name.substr(std::string("out.1").size())] = tensor;
  }
  EXPECT_TRUE(now.contains("cache.attn_intermediates.1.cached_kv.0"));
  const auto last = [](const at::Tensor& t) { return t.narrow(1, t.size(1) - 1, 1); };
  return (last(out(*model, now)) - last(whole)).abs().max().item<double>();
}

TEST(GivenCache, WhatEachCallGivesBackServesTheNext) {
  for (const char* options : {R"({"rotary_pos_emb": true})", R"({"cross_attend": true})",
                              R"({"attn_use_latent_kv": true, "attn_dim_latent_kv": 4})"}) {
    const auto model = build_model(stack(options));
    model->module().eval();
    TensorMap others;
    if (std::string(options).find("cross_attend") != std::string::npos)
      others["context"] = at::randn({2, 3, 16});
    const auto x = at::randn({2, kOld + 1, 16});
    const auto whole = out(*model, with(others, {{"x", x}}));
    TensorMap cache;
    for (int64_t token = 0; token <= kOld; ++token) {
      const auto inputs = with(with(others, cache), {{"x", x.narrow(1, 0, token + 1)}});
      const auto results = run_model(*model, "forward", inputs, {{"return_hiddens", true}}, false);
      const auto& step = results.at("out.0");
      EXPECT_TRUE(
          at::allclose(step.narrow(1, step.size(1) - 1, 1), whole.narrow(1, token, 1), 1e-4, 1e-5))
          << options << token;
      cache.clear();
      for (const auto& [name, tensor] : results) {
        if (name.find("cached_kv") != std::string::npos)
          cache["cache" + name.substr(std::string("out.1").size())] = tensor;
      }
    }
  }
}

TEST(GivenCache, KeysStandWherePaddingAndContextsPutThem) {
  const TensorMap padded = {{"seq_start_pos", at::tensor({0L, 2L})}};
  const TensorMap context = {{"context", at::randn({2, 3, 16})},
                             {"context_pos", at::tensor({4L, 0L, 2L})}};
  const TensorMap rows = {{"context", at::randn({2, 3, 16})},
                          {"context_pos", at::tensor({4L, 0L, 2L, 1L, 3L, 5L}).view({2, 3})}};
  for (const char* positions :
       {R"({"rotary_pos_emb": true})", R"({"rotary_pos_emb": true, "rotary_xpos": true})",
        R"({"rotary_pos_emb": true, "attn_qk_norm": true})",
        R"({"rotary_pos_emb": true, "attn_kv_heads": 1})",
        R"({"rotary_pos_emb": true, "rotate_num_heads": 1})", R"({"polar_pos_emb": true})",
        R"({"alibi_pos_bias": true})", R"({"rel_pos_bias": true})"}) {
    EXPECT_LT(cached_difference(stack(positions), padded), 1e-5) << positions;
    auto crossing = stack(positions);
    crossing["cross_attend"] = true;
    EXPECT_LT(cached_difference(crossing, with(context, padded)), 1e-5) << positions;
    if (!crossing.contains("rotary_pos_emb")) continue;
    EXPECT_LT(cached_difference(crossing, rows), 1e-5) << positions;
  }
}

TEST(GivenCache, OfAModelThatIsGivenNewTokensOnly) {
  const Json net = {{"type", "TransformerWrapper"},
                    {"num_tokens", 17},
                    {"max_seq_len", 16},
                    {"input_not_include_cache", true},
                    {"attn_layers", stack("{}")}};
  auto inputs = last_token();
  inputs["x"] = at::arange(2 * (kOld + 1)).view({2, kOld + 1});
  EXPECT_NE(refusal(net, inputs).find("new ones alone, as input_not_include_cache says"),
            std::string::npos);
  EXPECT_EQ(refusal(net, inputs, {{"input_not_include_cache", false}}), "");
}

// As in Python, which embeds all of x.
TEST(GivenCache, InitialEmbeddingsAreOfAllTokensOfX) {
  const Json net = {{"type", "TransformerWrapper"},
                    {"num_tokens", 17},
                    {"max_seq_len", 16},
                    {"add_continuous_pred_head", true},
                    {"xt_compat", "2.31.10"},
                    {"embed_num_tokens", {{"part", 3}}},
                    {"attn_layers", stack("{}")}};
  const auto model = build_model(net);
  model->module().eval();
  auto inputs = last_token();
  inputs["x"] = at::arange(2 * (kOld + 1)).view({2, kOld + 1});
  inputs["embed_ids.part"] = at::arange(kOld + 1).remainder(3).repeat({2, 1});
  inputs["sum_embeds"] = at::randn({2, kOld + 1, 16});
  const auto call = [&](const TensorMap& given) {
    return run_model(*model, "forward", given,
                     {{"return_intermediates", true}, {"return_next_embed_pred", true}}, false);
  };
  const auto cached = call(inputs);
  auto alone = inputs;
  std::erase_if(alone, [](const auto& item) { return item.first.starts_with("cache."); });
  const auto whole = call(alone);
  EXPECT_EQ(cached.at("out.0.1.0").size(1), 1);
  for (const char* name : {"out.1.initial_embeds", "out.0.1.1"})
    EXPECT_TRUE(at::allclose(cached.at(name), whole.at(name))) << name;
  // What is given for the new tokens alone leaves those of the others unknown.
  inputs["x"] = at::arange(2 * (kOld + 2)).view({2, kOld + 2});
  inputs["embed_ids.part"] = inputs["x"].remainder(3);
  inputs["sum_embeds"] = at::randn({2, 2, 16});
  const auto two = run_model(*model, "forward", inputs,
                             {{"return_intermediates", true}, {"cache_age", 2}}, false);
  EXPECT_EQ(two.at("out.1.initial_embeds").size(1), 2);
}

TEST(GivenPairs, OfTheSecondLayerAloneAreRead) {
  const auto model = build_model(stack("{}"));
  const TensorMap x = {{"x", at::randn({2, 5, 16})}};
  const TensorMap pair = {{"self_attn_additional_kv.1.0", at::randn({2, 2, 3, 8})},
                          {"self_attn_additional_kv.1.1", at::randn({2, 2, 3, 8})}};
  const auto result = out(*model, with(x, pair));
  EXPECT_FALSE(at::allclose(result, out(*model, x)));
  // As the only pair it goes to the last layer too.
  EXPECT_TRUE(at::equal(
      result,
      out(*model,
          with(x, {{"self_attn_additional_kv.0.0", pair.at("self_attn_additional_kv.1.0")},
                   {"self_attn_additional_kv.0.1", pair.at("self_attn_additional_kv.1.1")}}))));
}

TEST(GivenLists, EveryNameIsReadOrRefused) {
  const auto config = stack("{}");
  const TensorMap x = {{"x", at::randn({2, 5, 16})}};
  const auto some = at::randn({2, 2, 3, 8});
  const auto refused = [&](const char* name) { return refusal(config, with(x, {{name, some}})); };
  EXPECT_EQ(refused("self_attn_additional_kv.0.0"),
            "self_attn_additional_kv: needs both keys (self_attn_additional_kv.0.0) and values "
            "(self_attn_additional_kv.0.1)");
  const auto pairs =
      with(x, {{"self_attn_additional_kv.0.0", some}, {"self_attn_additional_kv.0.1", some}});
  EXPECT_NE(refusal(config, with(pairs, {{"self_attn_additional_kv.0.2", some}}))
                .find("unknown argument 'self_attn_additional_kv.0.2'; the nearest known one is "
                      "'self_attn_additional_kv.0."),
            std::string::npos);
  EXPECT_NE(refused("self_attn_additional_kv.keys").find("unknown argument"), std::string::npos);
  EXPECT_EQ(refused("mems.1"), "inputs: 'mems.0' is needed where there is 'mems.1'");
  const auto mem = at::randn({2, 3, 16});
  EXPECT_EQ(refusal(config, with(x, {{"mems.0", mem}, {"mems.2", mem}})),
            "inputs: 'mems.1' is needed where there is 'mems.2'");
  const auto angles = at::randn({5, 8});
  EXPECT_EQ(refusal(config, with(x, {{"rotary_pos_emb.0", angles},
                                     {"rotary_pos_emb.1", angles},
                                     {"rotary_pos_emb.2", angles}})),
            "rotary_pos_emb: expected angles and a scale, got 3 tensors");
  EXPECT_NE(refused("flash_pack_seq_kwargs.cu_seqlen_q")
                .find("the nearest known one is 'flash_pack_seq_kwargs.cu_seqlens_q'"),
            std::string::npos);
}

}  // namespace
}  // namespace x_transformers::given_cache_test
