// What Python x-transformers 2.16.1 refuses or gets wrong and ours does as it is meant: a test for
// each, against the formula or a model that needs none of it. Caches have
// tests/wrappers/cached_decoding_test.cpp, eos and prompts tests/generation/.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/feed_forward.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/nn/positions/rotary.h"

namespace x_transformers::meant_instead_test {
namespace {

constexpr int64_t kDim = 16, kHeads = 4, kDimHead = 8, kTokens = 5, kBatch = 2;

at::Tensor some(at::IntArrayRef shape) { return at::randn(shape); }

void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(got, expected, 1e-4, 1e-5)) << (got - expected).abs().max();
}

/// In eval mode, with no parameter at its start.
template <class Module, class Options>
Module make(const Options& options) {
  at::manual_seed(3);
  Module module(options);
  module->eval();
  const torch::NoGradGuard no_grad;
  for (auto& parameter : module->parameters()) parameter.add_(0.3 * at::randn_like(parameter));
  return module;
}

template <class Module>
void copy_parameters(Module& to, const Module& from) {
  const torch::NoGradGuard no_grad;
  const auto given = from->named_parameters();
  for (auto& item : to->named_parameters()) item.value().copy_(given[item.key()]);
}

AttentionOptions attention() {
  AttentionOptions options;
  options.dim = kDim;
  options.heads = kHeads;
  options.dim_head = kDimHead;
  return options;
}

AttentionInputs inputs_of(const at::Tensor& x) {
  AttentionInputs inputs;
  inputs.x = x;
  return inputs;
}

AttentionLayersOptions stack(LayersKind kind) {
  AttentionLayersOptions options;
  options.kind = kind;
  options.dim = kDim;
  options.depth = 2;
  options.heads = kHeads;
  options.attn.dim_head = kDimHead;
  return options;
}

AttentionLayersInputs layers_of(const at::Tensor& x) {
  AttentionLayersInputs inputs;
  inputs.x = x;
  return inputs;
}

/// Attention over keys in front of which stand the learned ones, which no mask hides.
at::Tensor with_memory(Attention& module, const at::Tensor& x, const at::Tensor& mask) {
  const auto weights = module->named_parameters();
  const auto heads = [&](const char* name) {
    return at::linear(x, weights[name]).unflatten(-1, {kHeads, -1}).transpose(1, 2);
  };
  const auto join = [&](const char* memory, const at::Tensor& own) {
    return at::cat({weights[memory].unsqueeze(0).expand({kBatch, -1, -1, -1}), own}, 2);
  };
  const auto k = join("mem_k", heads("to_k.weight")), v = join("mem_v", heads("to_v.weight"));
  auto scores = at::matmul(heads("to_q.weight"), k.transpose(-2, -1)) / std::sqrt(kDimHead);
  const auto all = at::constant_pad_nd(mask, {k.size(2) - mask.size(-1), 0}, 1);
  scores = scores.masked_fill(~all, -INFINITY);
  const auto out = at::matmul(scores.softmax(-1), v).transpose(1, 2).flatten(2);
  return at::linear(out, weights["to_out.weight"]);
}

TEST(MeantInstead, AttnMaskWithMemoryKeyValues) {
  const torch::NoGradGuard no_grad;
  auto options = attention();
  options.num_mem_kv = 3;
  auto module = make<Attention>(options);
  auto inputs = inputs_of(some({kBatch, kTokens, kDim}));
  for (const auto& mask :
       {at::rand({kTokens, kTokens}) < 0.6, at::rand({kHeads, kTokens, kTokens}) < 0.6,
        at::rand({kBatch, 1, kTokens, kTokens}) < 0.6}) {
    inputs.attn_mask = mask;
    expect_close(module->forward(inputs).out, with_memory(module, inputs.x, mask));
  }
}

TEST(MeantInstead, AnotherValueDimHeadWithMemoryKeyValues) {
  const torch::NoGradGuard no_grad;
  auto options = attention();
  options.num_mem_kv = 3;
  options.value_dim_head = 5;
  auto module = make<Attention>(options);
  const auto x = some({kBatch, kTokens, kDim});
  const auto all = at::ones({kTokens, kTokens}, at::kBool);
  expect_close(module->forward(inputs_of(x)).out, with_memory(module, x, all));
}

// Without a prefix it is causal, and with all in the prefix nothing is hidden.
TEST(MeantInstead, PrefixDecoderWithMemoryKeyValues) {
  const torch::NoGradGuard no_grad;
  auto options = stack(LayersKind::prefix_decoder);
  options.attn.num_mem_kv = 2;
  auto prefix = make<AttentionLayers>(options);
  auto inputs = layers_of(some({kBatch, kTokens, kDim}));
  for (const bool causal : {true, false}) {
    options.kind = causal ? LayersKind::decoder : LayersKind::encoder;
    AttentionLayers other(options);
    copy_parameters(other, prefix);
    auto with_prefix = inputs;
    if (!causal) with_prefix.prefix_attn_len = at::full({kBatch}, kTokens, at::kLong);
    expect_close(prefix->forward(with_prefix).out, other->forward(inputs).out);
  }
}

// A memory has no position: its angle is zero, and its bias none.
TEST(MeantInstead, PolarPositionsWithMemoryKeyValues) {
  const torch::NoGradGuard no_grad;
  auto options = attention();
  options.num_mem_kv = 1;
  auto module = make<Attention>(options);
  auto inputs = inputs_of(some({kBatch, kTokens, kDim}));
  // All angles zero: attention to softplus(q) and softplus(k).
  const auto zero = at::zeros({1, kTokens, kDimHead});
  const PolarInputs polar{zero, zero.unsqueeze(1)};
  inputs.polar = &polar;
  const auto weights = module->named_parameters();
  const auto heads = [&](const char* name) {
    return at::linear(inputs.x, weights[name]).unflatten(-1, {kHeads, -1}).transpose(1, 2);
  };
  const auto expand = [&](const char* name) {
    return weights[name].unsqueeze(0).expand({kBatch, -1, -1, -1});
  };
  const auto k = at::softplus(at::cat({expand("mem_k"), heads("to_k.weight")}, 2));
  const auto v = at::cat({expand("mem_v"), heads("to_v.weight")}, 2);
  const auto scores = at::matmul(at::softplus(heads("to_q.weight")), k.transpose(-2, -1));
  const auto out = at::matmul((scores / std::sqrt(kDimHead)).softmax(-1), v);
  expect_close(module->forward(inputs).out,
               at::linear(out.transpose(1, 2).flatten(2), weights["to_out.weight"]));
}

/// Attention with a key/value head for each query head, that has the weights of a grouped one.
Attention ungrouped(const AttentionOptions& options, const Attention& grouped) {
  auto all_heads = options;
  all_heads.kv_heads = std::nullopt;
  Attention module(all_heads);
  module->eval();
  const torch::NoGradGuard no_grad;
  const auto given = grouped->named_parameters();
  for (auto& item : module->named_parameters()) {
    const auto& own = given[item.key()];
    // Query head h uses key/value head h % kv_heads.
    item.value().copy_(item.value().size(0) == own.size(0) ? own : at::cat({own, own}));
  }
  return module;
}

TEST(MeantInstead, LearnedValueResidualMixWithGroupedHeads) {
  const torch::NoGradGuard no_grad;
  auto options = attention();
  options.kv_heads = kHeads / 2;
  options.learned_value_residual_mix = true;
  auto grouped = make<Attention>(options);
  auto inputs = inputs_of(some({kBatch, kTokens, kDim}));
  inputs.value_residual = some({kBatch, kHeads / 2, kTokens, kDimHead});
  auto repeated = inputs;
  repeated.value_residual = at::cat({inputs.value_residual, inputs.value_residual}, 1);
  expect_close(grouped->forward(inputs).out, ungrouped(options, grouped)->forward(repeated).out);
}

TEST(MeantInstead, ValueNormWithGroupedHeads) {
  const torch::NoGradGuard no_grad;
  auto options = attention();
  options.kv_heads = kHeads / 2;
  options.value_rmsnorm = true;
  auto grouped = make<Attention>(options);
  const auto inputs = inputs_of(some({kBatch, kTokens, kDim}));
  expect_close(grouped->forward(inputs).out, ungrouped(options, grouped)->forward(inputs).out);
}

// The gates belong to the outputs, and so see what the queries see.
TEST(MeantInstead, SeveralInputViewsWithValueGates) {
  const torch::NoGradGuard no_grad;
  auto options = attention();
  options.qkv_receive_diff_residuals = true;
  options.dim_out = kHeads * kDimHead;
  auto plain = make<Attention>(options);
  options.gate_values = options.gate_value_heads = true;
  auto gated = make<Attention>(options);
  const auto views = some({3, kBatch, kTokens, kDim});
  const auto shared = at::eye(kHeads * kDimHead);  // shows the heads
  for (auto& item : plain->named_parameters()) {
    if (item.key() == "to_out.weight") item.value().copy_(shared);
    gated->named_parameters()[item.key()].copy_(item.value());
  }
  const auto weights = gated->named_parameters();
  const auto of_queries = [&](const std::string& name) {
    return at::linear(views[0], weights[name + ".weight"], weights[name + ".bias"]).sigmoid();
  };
  const auto heads = of_queries("to_v_head_gate").repeat_interleave(kDimHead, -1);
  expect_close(gated->forward(inputs_of(views)).out,
               plain->forward(inputs_of(views)).out * heads * of_queries("to_v_gate"));
}

TEST(MeantInstead, AttentionOnAttentionWithZeroInit) {
  auto options = attention();
  options.on_attn = options.zero_init_output = true;
  Attention module(options);
  const auto out = module->forward(inputs_of(some({kBatch, kTokens, kDim}))).out;
  EXPECT_EQ(out.abs().max().item<float>(), 0);
  out.sum().backward();  // it learns all the same
  EXPECT_GT(module->named_parameters()["to_out.0.weight"].grad().abs().max().item<float>(), 0);
}

TransformerWrapperOptions wrapper(LayersKind kind) {
  TransformerWrapperOptions options;
  options.num_tokens = 11;
  options.max_seq_len = 8;
  options.attn_layers = stack(kind);
  return options;
}

TEST(MeantInstead, MixtureOfSoftmaxesWithReturnEmbeddings) {
  const torch::NoGradGuard no_grad;
  auto options = wrapper(LayersKind::decoder);
  options.mixture_of_softmax = true;
  auto model = make<TransformerWrapper>(options);
  TransformerInputs inputs;
  inputs.x = at::randint(11, {kBatch, kTokens}, at::kLong);
  const auto output = model->forward(inputs);
  // The embeddings of the stack: each expert makes logits of its own from them.
  ASSERT_EQ(output.embeddings.sizes(), (at::IntArrayRef{kBatch, kTokens, kDim}));
  const auto weights = model->named_parameters();
  const auto share = at::linear(output.embeddings, weights["combine_mixture.weight"]).softmax(-1);
  const auto experts =
      at::linear(output.embeddings, weights["to_mixture.0.weight"]).unflatten(-1, {-1, kDim});
  const auto expected =
      (at::linear(experts, weights["to_logits.weight"]).softmax(-1) * share.unsqueeze(-1)).sum(-2);
  expect_close(output.logits[0].exp(), expected);
  inputs.logits = false;
  expect_close(model->forward(inputs).embeddings, output.embeddings);
}

TEST(MeantInstead, UnetSkipsAtAnyDepth) {
  const torch::NoGradGuard no_grad;
  for (int64_t depth = 2; depth <= 5; ++depth) {
    for (const bool three_layers : {false, true}) {
      auto options = stack(LayersKind::encoder);
      options.depth = depth;
      options.unet_skips = true;
      options.macaron = three_layers;
      auto module = make<AttentionLayers>(options);
      const auto out = module->forward(layers_of(some({kBatch, kTokens, kDim}))).out;
      EXPECT_TRUE(at::isfinite(out).all().item<bool>()) << depth;
      int64_t joined = 0;
      for (const auto& step : module->plan().layers) joined += step.skip_from.has_value();
      EXPECT_EQ(joined, depth / 2) << depth;
    }
  }
}

// Neither has a meaning for a context, whose tokens are not in the order of the queries.
void expect_cross_attention_without(void (*set)(AttentionLayersOptions&)) {
  const torch::NoGradGuard no_grad;
  auto options = stack(LayersKind::decoder);
  options.cross_attend = true;
  options.depth = 1;
  auto plain = make<AttentionLayers>(options);
  set(options);
  auto module = make<AttentionLayers>(options);
  for (auto& item : plain->named_parameters())
    module->named_parameters()[item.key()].copy_(item.value());
  auto inputs = layers_of(some({kBatch, kTokens, kDim}));
  inputs.context = some({kBatch, 3, kDim});
  inputs.layers_execute_order = {{1}};
  expect_close(module->forward(inputs).out, plain->forward(inputs).out);
  inputs.layers_execute_order = {{0}};
  EXPECT_FALSE(at::allclose(module->forward(inputs).out, plain->forward(inputs).out, 1e-3, 1e-3));
}

/// The parameters of `module` whose names begin with `prefix`, into `part`.
template <class Part>
void copy_part(Part& part, AttentionLayers& module, const std::string& prefix) {
  const torch::NoGradGuard no_grad;
  const auto given = module->named_parameters();
  for (auto& item : part->named_parameters()) item.value().copy_(given[prefix + item.key()]);
}

// arXiv:2304.14802, section 2: x and the dual residual start as the input, y = x + LN(dual).
TEST(MeantInstead, ResiDualHasTwoResiduals) {
  const torch::NoGradGuard no_grad;
  auto options = stack(LayersKind::decoder);
  options.depth = 1;
  options.resi_dual = true;
  options.resi_dual_scale = 0.25;
  auto module = make<AttentionLayers>(options);
  auto attention_options = attention();
  attention_options.causal = true;
  Attention attention_block(attention_options);
  copy_part(attention_block, module, "layers.0.1.");
  FeedForwardOptions feed_forward_options;
  feed_forward_options.dim = kDim;
  FeedForward feed_forward(feed_forward_options);
  copy_part(feed_forward, module, "layers.1.1.");
  const auto norm = [&](const at::Tensor& x, const char* gamma) {
    return at::layer_norm(x, {kDim}, module->named_parameters()[gamma] + 1.0);
  };

  const auto input = some({kBatch, kTokens, kDim});
  auto x = input, dual = input * 0.25;
  const auto add = [&](const at::Tensor& branch, const char* gamma) {
    x = norm(x + branch, gamma);
    dual = dual + branch * 0.25;
  };
  add(attention_block->forward(inputs_of(x)).out, "layers.0.0.2.gamma");
  add(feed_forward->forward(x), "layers.1.0.2.gamma");
  expect_close(module->forward(layers_of(input)).out, x + norm(dual, "final_norm.gamma"));

  auto cache = module->make_cache();
  auto first = layers_of(input.narrow(1, 0, 3)), second = layers_of(input.narrow(1, 3, 2));
  first.cache = second.cache = &cache;
  const auto cached = at::cat({module->forward(first).out, module->forward(second).out}, 1);
  expect_close(cached, module->forward(layers_of(input)).out);
}

TEST(MeantInstead, SelectiveAttentionWithCrossAttend) {
  expect_cross_attention_without([](auto& options) { options.attn.selective = true; });
}

TEST(MeantInstead, ContextualPositionsWithCrossAttend) {
  expect_cross_attention_without([](auto& options) { options.attn.use_cope = true; });
}

// Position p of a key counts the gates from it up to the query; its weight for the learned position
// m falls with |p - m|.
TEST(MeantInstead, ContextualPositionsWithSoftOneHot) {
  const torch::NoGradGuard no_grad;
  constexpr int64_t kMax = 4;
  constexpr double kTemperature = 0.05;
  CoPE cope({.dim = kDimHead, .heads = 1, .max_pos = kMax, .soft_onehot = true});
  cope.parameters()[0].normal_();
  const auto learned = cope.parameters()[0];
  const auto q = some({1, 1, kTokens, kDimHead}), scores = some({1, 1, kTokens, kTokens});
  auto expected = at::zeros({kTokens, kTokens});
  for (int64_t i = 0; i < kTokens; ++i) {
    for (int64_t j = 0; j < kTokens; ++j) {
      const auto gates = scores[0][0][i].narrow(0, j, kTokens - j).sigmoid();
      const auto position = std::min(gates.sum().item<double>(), kMax - 1.0);
      const auto weights =
          ((at::arange(kMax, at::kFloat) - position).abs() / -kTemperature).softmax(0);
      expected[i][j] = (weights * at::mv(learned, q[0][0][i])).sum();
    }
  }
  expect_close(cope.forward(q, scores)[0][0], expected);
}

TEST(MeantInstead, PolarEmbeddingWithUniformBiasInit) {
  const torch::NoGradGuard no_grad;
  at::manual_seed(3);
  const PolarEmbedding module({.dim = 64, .heads = 8, .bias_uniform_init = true});
  const auto bias = module.key_bias();
  EXPECT_LE(bias.max().item<double>(), 0);
  EXPECT_GE(bias.min().item<double>(), -2 * M_PI);
  // The mean of 512 uniform numbers, within five standard deviations; and their spread.
  EXPECT_NEAR(bias.mean().item<double>(), -M_PI, 5 * 2 * M_PI / std::sqrt(12.0 * 512));
  EXPECT_NEAR(bias.std().item<double>(), 2 * M_PI / std::sqrt(12.0), 0.2);
}

TEST(MeantInstead, SinusoidalPositionsWithLeftPadding) {
  const torch::NoGradGuard no_grad;
  auto options = wrapper(LayersKind::decoder);
  options.scaled_sinu_pos_emb = true;
  auto model = make<TransformerWrapper>(options);
  TransformerInputs inputs;
  inputs.x = at::randint(11, {kBatch, kTokens}, at::kLong);
  inputs.seq_start_pos = at::tensor({int64_t{0}, int64_t{2}});
  const auto padded = model->forward(inputs).logits[0];
  for (int64_t row = 0; row < kBatch; ++row) {
    const auto start = 2 * row;
    const auto alone = model->forward(inputs.x.narrow(0, row, 1).narrow(1, start, kTokens - start));
    expect_close(padded[row].narrow(0, start, kTokens - start), alone[0]);
  }
}

}  // namespace
}  // namespace x_transformers::meant_instead_test
