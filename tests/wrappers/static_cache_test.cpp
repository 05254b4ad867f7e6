// Static caches, as CUDA graphs need them, against caches that grow and against no caches:
// token by token.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/transformer_session.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers::static_cache_test {
namespace {

constexpr int64_t kVocabulary = 23;

/// A small decoder; the JSON objects are merged over its options.
TransformerWrapper make_net(const std::string& layers, const std::string& net = "{}") {
  auto config = Json::parse(R"({"num_tokens": 23, "max_seq_len": 160, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 2, "heads": 4, "attn_dim_head": 8}})");
  config["attn_layers"].update(Json::parse(layers));
  config.update(Json::parse(net));
  at::manual_seed(5);
  TransformerWrapper built(options_from_json<TransformerWrapperOptions>(config, "net"));
  const at::NoGradGuard no_grad;
  // Parameters that start at zero or one would hide what they do.
  for (auto& parameter : built->parameters()) parameter.add_(at::randn_like(parameter) * 0.1);
  built->eval();
  return built;
}

at::Tensor random_tokens(int64_t batch, int64_t length) {
  return at::randint(0, kVocabulary, {batch, length});
}

std::unique_ptr<TransformerSession> make_session(const TransformerWrapper& net,
                                                 SessionOptions options, bool fixed,
                                                 bool cached = true) {
  options.static_caches = fixed;
  options.cache_kv = cached;
  return std::make_unique<TransformerSession>(net.ptr(), options);
}

void expect_equal(const at::Tensor& given, const at::Tensor& expected, const std::string& where) {
  const auto difference = (given - expected).abs().max().item<double>();
  EXPECT_LT(difference, 1e-4) << where;
}

/// Decodes `steps` random tokens after a prompt of 5 in both ways.
void expect_fixed_like_growing(const TransformerWrapper& net, const SessionOptions& options,
                               int64_t steps) {
  const at::NoGradGuard no_grad;
  const auto fixed = make_session(net, options, true), growing = make_session(net, options, false);
  auto tokens = random_tokens(2, 5);
  for (int64_t step = 0; step <= steps; ++step) {
    expect_equal(fixed->append(tokens), growing->append(tokens), "step " + std::to_string(step));
    tokens = random_tokens(2, 1);
  }
}

struct Case {
  const char* name;
  const char* layers;
  const char* net = "{}";
};

std::ostream& operator<<(std::ostream& out, const Case& item) { return out << item.name; }

class StaticCacheTest : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(
    Options, StaticCacheTest,
    testing::Values(
        Case{"learned", "{}"}, Case{"sinusoidal", "{}", R"({"scaled_sinu_pos_emb": true})"},
        Case{"rotary", R"({"rotary_pos_emb": true})"},
        Case{"xpos", R"({"rotary_pos_emb": true, "rotary_xpos": true})"},
        Case{"polar", R"({"polar_pos_emb": true})"}, Case{"alibi", R"({"alibi_pos_bias": true})"},
        Case{"t5", R"({"rel_pos_bias": true})"}, Case{"dynamic", R"({"dynamic_pos_bias": true})"},
        Case{"cope", R"({"attn_use_cope": true})"},
        Case{"kv_heads", R"({"attn_kv_heads": 2, "rotary_pos_emb": true})"},
        Case{"one_kv_head", R"({"attn_one_kv_head": true})"},
        Case{"mem_kv", R"({"attn_num_mem_kv": 3, "rel_pos_bias": true})"},
        Case{"zero_kv", R"({"attn_add_zero_kv": true})"},
        Case{"window", R"({"attn_max_attend_past": 7})"},
        Case{"memory_tokens", R"({"rotary_pos_emb": true})", R"({"num_memory_tokens": 3})"},
        Case{"memory_tokens_learned", "{}", R"({"num_memory_tokens": 3})"},
        Case{"latent_kv", R"({"attn_use_latent_kv": true, "attn_dim_latent_kv": 6})"},
        Case{"talking_heads",
             R"({"attn_pre_talking_heads": true, "attn_post_talking_heads": true})"},
        Case{"residual_attn", R"({"residual_attn": true})"},
        Case{"sparse", R"({"attn_sparse_topk": 4})"}, Case{"sigmoid", R"({"attn_sigmoid": true})"},
        Case{"hard", R"({"attn_hard": true})"}, Case{"l2", R"({"attn_l2_distance": true})"},
        Case{"cog_signed", R"({"attn_cog_signed": true})"},
        Case{"sink", R"({"attn_head_learned_sink": true})"},
        Case{"qk_norm", R"({"attn_qk_norm": true})"},
        Case{"value_residual", R"({"add_value_residual": true})"},
        Case{"shift_tokens", R"({"shift_tokens": 2})"},
        Case{"gates", R"({"attn_data_dependent_alibi": true})"},
        Case{"gates_per_row",
             R"({"attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true})"},
        Case{"hybrid", R"({"attn_hybrid_fold_axial_dim": 2, "attn_hybrid_module":
            {"type": "GRU", "input_size": 16, "hidden_size": 32, "batch_first": true}})"},
        Case{"cope_talking", R"({"attn_use_cope": true, "attn_cope_talking_heads": true})"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_P(StaticCacheTest, LikeGrowing) {
  // 70 tokens are more than the first capacity of 64.
  expect_fixed_like_growing(make_net(GetParam().layers, GetParam().net), {}, 70);
}

TEST_P(StaticCacheTest, LikeUncached) {
  const at::NoGradGuard no_grad;
  const auto net = make_net(GetParam().layers, GetParam().net);
  const auto fixed = make_session(net, {}, true), uncached = make_session(net, {}, false, false);
  auto tokens = random_tokens(2, 5);
  for (int64_t step = 0; step < 9; ++step) {
    expect_equal(fixed->append(tokens), uncached->append(tokens), "step " + std::to_string(step));
    tokens = random_tokens(2, 1);
  }
}

TEST_P(StaticCacheTest, RaggedPrompts) {
  if (std::string(GetParam().name).starts_with("memory_tokens"))
    GTEST_SKIP() << "memory tokens stand before padding";
  SessionOptions options;
  options.seq_start_pos = at::tensor({0, 3}, at::kLong);
  expect_fixed_like_growing(make_net(GetParam().layers, GetParam().net), options, 9);
}

TEST(StaticCache, CachesAreFixedAndReleased) {
  const at::NoGradGuard no_grad;
  auto net = make_net("{}");
  auto growing = net->make_cache(), fixed = net->make_cache();
  const auto run = [&](TransformerCache& cache, const at::Tensor& tokens) {
    TransformerInputs inputs;
    inputs.x = tokens;
    inputs.cache = &cache;
    return net->forward(inputs).logits[0];
  };
  const auto prompt = random_tokens(2, 5);
  run(growing, prompt);
  run(fixed, prompt);
  fixed.layers.fix(32, at::kCPU);
  const auto address = fixed.layers.position.data_ptr();
  for (int64_t step = 0; step < 4; ++step) {
    const auto token = random_tokens(2, 1);
    expect_equal(run(fixed, token), run(growing, token), "fixed");
    fixed.layers.advance();
    EXPECT_EQ(fixed.layers.position.data_ptr(), address);
    EXPECT_EQ(fixed.layers.position.item<int64_t>(), 6 + step);
  }
  fixed.layers.release();
  EXPECT_FALSE(fixed.layers.position.defined());
  const auto more = random_tokens(2, 3);
  expect_equal(run(fixed, more), run(growing, more), "released");
  EXPECT_EQ(fixed.layers.key_values()[0]->length(), 12);
}

TEST(StaticCache, SeveralTokensAndReorderFallBack) {
  const at::NoGradGuard no_grad;
  const auto net = make_net(R"({"rotary_pos_emb": true})");
  const auto fixed = make_session(net, {}, true), growing = make_session(net, {}, false);
  const auto rows = at::tensor({1, 1, 0}, at::kLong);
  const auto expect_same = [&](const at::Tensor& tokens) {
    expect_equal(fixed->append(tokens), growing->append(tokens),
                 "length " + std::to_string(tokens.size(1)));
  };
  expect_same(random_tokens(2, 4));
  for (int i = 0; i < 6; ++i) expect_same(random_tokens(2, 1));
  expect_same(random_tokens(2, 3));
  for (int i = 0; i < 6; ++i) expect_same(random_tokens(2, 1));
  fixed->reorder(rows);
  growing->reorder(rows);
  for (int i = 0; i < 3; ++i) expect_same(random_tokens(3, 1));
}

TEST(StaticCache, WindowBeyondMaxSeqLen) {
  const auto net = make_net("{}", R"({"max_seq_len": 12})");
  expect_fixed_like_growing(net, {}, 12);
}

TEST(StaticCache, LearnedPositionsEnd) {
  const at::NoGradGuard no_grad;
  const auto net = make_net("{}", R"({"max_seq_len": 12})");
  SessionOptions options;
  options.restrict_to_max_seq_len = false;
  const auto session = make_session(net, options, true);
  session->append(random_tokens(2, 5));
  for (int i = 0; i < 7; ++i) session->append(random_tokens(2, 1));
  EXPECT_THROW(session->append(random_tokens(2, 1)), InputError);
}

TEST(StaticCache, ContextIsNotFixed) {
  const at::NoGradGuard no_grad;
  const auto net = make_net(R"({"cross_attend": true})");
  SessionOptions options;
  options.inputs.layers.context = at::randn({2, 6, 16});
  expect_fixed_like_growing(net, options, 9);
}

TEST(StaticCache, Memories) {
  const at::NoGradGuard no_grad;
  for (const char* layers :
       {R"({"rotary_pos_emb": true})", R"({"attn_data_dependent_alibi": true, "shift_tokens": 1})",
        R"({"attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true})",
        R"({"attn_hybrid_fold_axial_dim": 1, "attn_hybrid_module":
            {"type": "CausalConv1d", "dim": 16, "dim_out": 32}})"}) {
    const auto net = make_net(layers, R"({"max_mem_len": 4})");
    SessionOptions options;
    options.inputs.mems = {at::randn({2, 4, 16}), at::randn({2, 4, 16})};
    expect_fixed_like_growing(net, options, 9);
  }
}

}  // namespace
}  // namespace x_transformers::static_cache_test
