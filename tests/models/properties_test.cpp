// What must hold of every model, whatever its options: causality, and that masked tokens do not
// matter.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {
namespace {

constexpr int64_t kVocabulary = 19, kLength = 9, kBatch = 2;

struct Variant {
  const char* name;
  void (*set)(TransformerWrapperOptions&);
};

TransformerWrapperOptions base(LayersKind kind) {
  TransformerWrapperOptions options;
  options.num_tokens = kVocabulary;
  options.max_seq_len = 16;
  options.attn_layers.kind = kind;
  options.attn_layers.dim = 16;
  options.attn_layers.depth = 2;
  options.attn_layers.heads = 4;
  options.attn_layers.attn.dim_head = 8;
  return options;
}

using O = TransformerWrapperOptions;
const Variant kVariants[] = {
    {"Plain", [](O&) {}},
    {"Rotary", [](O& o) { o.attn_layers.rotary_pos_emb = true; }},
    {"RotaryPartialHeads",
     [](O& o) { o.attn_layers.rotary_pos_emb = true, o.attn_layers.rotate_num_heads = 2; }},
    {"Alibi", [](O& o) { o.attn_layers.alibi_pos_bias = true; }},
    {"RelPos", [](O& o) { o.attn_layers.rel_pos_bias = true; }},
    {"DynamicPos", [](O& o) { o.attn_layers.dynamic_pos_bias = true; }},
    {"Sinusoidal", [](O& o) { o.scaled_sinu_pos_emb = true; }},
    {"Polar", [](O& o) { o.attn_layers.polar_pos_emb = true; }},
    {"KvHeads", [](O& o) { o.attn_layers.attn.kv_heads = 2; }},
    {"OneKvHead", [](O& o) { o.attn_layers.attn.one_kv_head = true; }},
    {"MemKv", [](O& o) { o.attn_layers.attn.num_mem_kv = 3; }},
    {"QkNorm",
     [](O& o) { o.attn_layers.attn.qk_norm = o.attn_layers.attn.qk_norm_dim_scale = true; }},
    {"TalkingHeads",
     [](O& o) {
       o.attn_layers.attn.pre_talking_heads = o.attn_layers.attn.post_talking_heads = true;
     }},
    {"Softclamp", [](O& o) { o.attn_layers.attn.softclamp_logits = true; }},
    {"Window", [](O& o) { o.attn_layers.attn.max_attend_past = 3; }},
    {"Sigmoid", [](O& o) { o.attn_layers.attn.sigmoid = true; }},
    {"MemoryTokens", [](O& o) { o.num_memory_tokens = 2; }},
    {"ResidualStreams", [](O& o) { o.attn_layers.num_residual_streams = 2; }},
    {"ResidualAttention", [](O& o) { o.attn_layers.residual_attn = true; }},
    {"ValueResidual", [](O& o) { o.attn_layers.add_value_residual = true; }},
    {"ValueResidualKvHeads",
     [](O& o) { o.attn_layers.add_value_residual = true, o.attn_layers.attn.kv_heads = 2; }},
    {"ValueNorm", [](O& o) { o.attn_layers.attn.value_rmsnorm = true; }},
    {"ValueNormKvHeads",
     [](O& o) { o.attn_layers.attn.value_rmsnorm = true, o.attn_layers.attn.kv_heads = 2; }},
    {"ValueNormOneKvHead",
     [](O& o) { o.attn_layers.attn.value_rmsnorm = o.attn_layers.attn.one_kv_head = true; }},
    {"Latents",
     [](O& o) { o.attn_layers.attn.use_latent_kv = true, o.attn_layers.attn.dim_latent_kv = 6; }},
    {"FeedForwardGlu", [](O& o) { o.attn_layers.ff.glu = true; }},
};

class Properties : public testing::TestWithParam<Variant> {
 protected:
  TransformerWrapper make(LayersKind kind) {
    at::manual_seed(3);
    auto options = base(kind);
    GetParam().set(options);
    TransformerWrapper model(options);
    model->eval();
    torch::NoGradGuard no_grad;
    for (auto& parameter : model->parameters()) parameter.add_(0.05 * at::randn_like(parameter));
    return model;
  }
  at::Tensor tokens() { return at::randint(kVocabulary, {kBatch, kLength}, at::kLong); }
};

TEST_P(Properties, LaterTokensDoNotReachEarlierOutputs) {
  auto model = make(LayersKind::decoder);
  const at::NoGradGuard no_grad;
  const auto x = tokens();
  auto changed = x.clone();
  changed.narrow(1, 5, kLength - 5).copy_((x.narrow(1, 5, kLength - 5) + 1) % kVocabulary);
  const auto before = model->forward(x), after = model->forward(changed);
  EXPECT_TRUE(at::allclose(before.narrow(1, 0, 5), after.narrow(1, 0, 5), 1e-4, 1e-5));
  EXPECT_FALSE(at::allclose(before.narrow(1, 5, 1), after.narrow(1, 5, 1), 1e-4, 1e-5));
}

TEST_P(Properties, MaskedTokensDoNotMatter) {
  auto model = make(LayersKind::encoder);
  const at::NoGradGuard no_grad;
  const auto x = tokens();
  TransformerInputs inputs;
  inputs.x = x;
  inputs.mask = at::arange(kLength) < at::tensor({kLength, int64_t{6}}).unsqueeze(1);
  auto changed = inputs;
  changed.x = at::where(inputs.mask, x, (x + 1) % kVocabulary);
  const auto before = model->forward(inputs).logits[0], after = model->forward(changed).logits[0];
  EXPECT_TRUE(at::allclose(before[1].narrow(0, 0, 6), after[1].narrow(0, 0, 6), 1e-4, 1e-5));
  EXPECT_TRUE(at::isfinite(after).all().item<bool>());
}

TEST_P(Properties, EveryParameterHasAFiniteGradient) {
  auto model = make(LayersKind::decoder);
  model->forward(tokens()).square().mean().backward();
  for (const auto& item : model->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_TRUE(at::isfinite(item.value().grad()).all().item<bool>()) << item.key();
  }
}

TEST_P(Properties, FusedEnginesGiveWhatTheReferenceGives) {
  auto model = make(LayersKind::decoder);
  auto options = model->options();
  auto& engines = options.attn_layers.attn.sdp_kwargs;
  engines.enable_flash = engines.enable_mem_efficient = engines.enable_cudnn = false;
  TransformerWrapper reference(options);
  reference->eval();
  const at::NoGradGuard no_grad;
  const auto given = model->parameters(), copied = reference->parameters();
  for (size_t i = 0; i < given.size(); ++i) copied[i].copy_(given[i]);
  const auto x = tokens();
  for (const auto& length : {kLength, int64_t{1}}) {
    const auto part = x.narrow(1, 0, length);
    EXPECT_TRUE(at::allclose(model->forward(part), reference->forward(part), 1e-4, 1e-5)) << length;
  }
}

INSTANTIATE_TEST_SUITE_P(Options, Properties, testing::ValuesIn(kVariants),
                         [](const auto& info) { return info.param.name; });

TEST(FullyMasked, GivesZeroOutputAndZeroGradientOnEveryEngine) {
  for (const bool softcapped : {false, true}) {
    auto options = base(LayersKind::encoder);
    options.attn_layers.attn.sigmoid = softcapped;  // the reference engine
    TransformerWrapper model(options);
    TransformerInputs inputs;
    inputs.x = at::randint(kVocabulary, {kBatch, kLength}, at::kLong);
    inputs.layers.self_attn_kv_mask = at::zeros({kBatch, kLength}, at::kBool);
    const auto logits = model->forward(inputs).logits[0];
    EXPECT_TRUE(at::isfinite(logits).all().item<bool>());
    logits.square().mean().backward();
    for (const auto& item : model->named_parameters()) {
      const auto& grad = item.value().grad();
      EXPECT_TRUE(!grad.defined() || at::isfinite(grad).all().item<bool>()) << item.key();
    }
  }
}

TEST(BadInput, NamesWhatIsWrong) {
  TransformerWrapper model(base(LayersKind::decoder));
  const auto refusal = [&](const TransformerInputs& inputs) -> std::string {
    try {
      model->forward(inputs);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  TransformerInputs inputs;
  EXPECT_NE(refusal(inputs).find("x: is needed"), std::string::npos);
  inputs.x = at::zeros({1, 17}, at::kLong);
  EXPECT_NE(refusal(inputs).find("max_seq_len = 16"), std::string::npos);
  inputs.x = at::zeros({1, 4}, at::kLong);
  inputs.layers.context = at::zeros({1, 4, 16});
  EXPECT_NE(refusal(inputs).find("context: given, but cross_attend is off"), std::string::npos);
}

TEST(BadInput, TensorsOfTheWrongTypeOrShape) {
  auto options = base(LayersKind::decoder);
  options.embed_num_tokens = {{"kind", 3}};
  options.attn_layers.cross_attend = true;
  TransformerWrapper model(options);
  const auto refusal = [&](const auto& change) -> std::string {
    TransformerInputs inputs;
    inputs.x = at::zeros({2, 4}, at::kLong);
    inputs.embed_ids["kind"] = at::zeros({2, 4}, at::kLong);
    inputs.layers.context = at::zeros({2, 5, 16});
    change(inputs);
    try {
      model->forward(inputs);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  using I = TransformerInputs;
  EXPECT_EQ(refusal([](I&) {}), "");
  const std::vector<std::pair<const char*, void (*)(I&)>> wrong = {
      {"x: expected integers [batch, seq], got Float [2, 4]",
       [](I& i) {
         i.x = at::zeros({2, 4});
       }},
      {"x: expected integers [batch, seq], got Long [4]",
       [](I& i) { i.x = at::zeros({4}, at::kLong); }},
      {"mask: expected bool [batch = 2, seq = 4], got Float [2, 4]",
       [](I& i) {
         i.mask = at::ones({2, 4});
       }},
      {"mask: expected bool [batch = 2, seq = 4], got Bool [2, 3]",
       [](I& i) {
         i.mask = at::ones({2, 3}, at::kBool);
       }},
      {"mems: expected floats [batch = 2, memory, dim = 16], got Float [2, 3, 15]",
       [](I& i) {
         i.mems = {at::zeros({2, 3, 15})};
       }},
      {"mems: expected floats [batch = 2, memory, dim = 16], got Float [16]",
       [](I& i) { i.mems = {at::zeros({16})}; }},
      {"mem_masks: expected bool [batch = 2, memory = 3], got Bool [2, 4]",
       [](I& i) {
         i.mems = {at::zeros({2, 3, 16})}, i.mem_masks = {at::ones({2, 4}, at::kBool)};
       }},
      {"prepend_embeds: expected floats [batch = 2, prepended, emb_dim = 16], got Float [2, 3, 8]",
       [](I& i) {
         i.prepend_embeds = at::zeros({2, 3, 8});
       }},
      {"prepend_mask: expected bool [batch = 2, prepended = 3], got Bool [2, 2]",
       [](I& i) {
         i.prepend_embeds = at::zeros({2, 3, 16}), i.prepend_mask = at::ones({2, 2}, at::kBool);
       }},
      {"embed_ids: expected integers broadcast to [batch = 2, seq = 4], got Long [2, 3]",
       [](I& i) {
         i.embed_ids["kind"] = at::zeros({2, 3}, at::kLong);
       }},
      {"seq_start_pos: expected integers [batch = 2], got Long [3]",
       [](I& i) { i.seq_start_pos = at::zeros({3}, at::kLong); }},
      {"self_attn_kv_mask: expected bool [batch = 2, seq], got Float [2, 4]",
       [](I& i) {
         i.layers.self_attn_kv_mask = at::ones({2, 4});
       }},
      {"self_attn_kv_mask: has entries for 6 keys, but there are 4",
       [](I& i) {
         i.layers.self_attn_kv_mask = at::ones({2, 6}, at::kBool);
       }},
      {"attn_mask: expected bool, got Float [4, 4]",
       [](I& i) {
         i.layers.attn_mask = at::ones({4, 4});
       }},
      {"attn_bias: expected floats, got Long [4, 4]",
       [](I& i) {
         i.layers.attn_bias = at::ones({4, 4}, at::kLong);
       }},
      {"context: expected floats [batch = 2, context, dim_context = 16], got Float [2, 5, 8]",
       [](I& i) {
         i.layers.context = at::zeros({2, 5, 8});
       }},
      {"context_mask: expected bool [batch = 2, context = 5], got Bool [2, 4]",
       [](I& i) {
         i.layers.context_mask = at::ones({2, 4}, at::kBool);
       }},
  };
  for (const auto& [message, change] : wrong) EXPECT_EQ(refusal(change), message);
}

TEST(BadInput, MemoriesHaveNoLearnedValueMix) {
  auto options = base(LayersKind::decoder);
  options.attn_layers.add_value_residual = true;
  TransformerInputs inputs;
  inputs.x = at::zeros({1, 4}, at::kLong);
  inputs.mems = {at::zeros({1, 3, 16}), at::zeros({1, 3, 16})};
  EXPECT_THROW(TransformerWrapper(options)->forward(inputs), InputError);
  options.attn_layers.learned_value_residual_mix = false;
  EXPECT_EQ(TransformerWrapper(options)->forward(inputs).logits[0].size(1), 4);
}

TEST(BadInput, HiddensOfStreamsDoNotFollowMemories) {
  auto options = base(LayersKind::decoder);
  options.attn_layers.num_residual_streams = 3;
  TransformerInputs inputs;
  inputs.x = at::zeros({2, 4}, at::kLong);
  inputs.keep_hiddens = true;
  TransformerWrapper model(options);
  const auto mems = next_mems(model->forward(inputs), std::nullopt);
  ASSERT_FALSE(mems.empty());
  EXPECT_EQ(mems[0].size(0), 2 * 3);
  inputs.mems = {at::zeros({2, 3, 16}), at::zeros({2, 3, 16})};
  const auto output = model->forward(inputs);
  EXPECT_THROW(next_mems(output, std::nullopt), InputError);
}

}  // namespace
}  // namespace x_transformers
