// Arguments of a call that contradict the model or each other: each rule has a call that breaks it
// alone.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers::refused_calls_test {
namespace {

constexpr int64_t kTokens = 4, kDim = 16;

struct Call {
  const char* message;
  void (*change_options)(TransformerWrapperOptions&);
  void (*change_inputs)(TransformerInputs&);
};

void PrintTo(const Call& call, std::ostream* out) { *out << call.message; }

class RefusedCall : public testing::TestWithParam<Call> {};

TEST_P(RefusedCall, NamesTheRule) {
  TransformerWrapperOptions options;
  options.num_tokens = 9;
  options.max_seq_len = 8;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = kDim;
  options.attn_layers.depth = 2;
  options.attn_layers.heads = 2;
  options.attn_layers.attn.dim_head = 8;
  GetParam().change_options(options);
  TransformerWrapper model(options);
  model->eval();
  TransformerInputs inputs;
  inputs.x = at::zeros({2, kTokens}, at::kLong);
  GetParam().change_inputs(inputs);
  std::string refusal;
  try {
    model->forward(inputs);
  } catch (const InputError& error) {
    refusal = error.what();
  }
  EXPECT_NE(refusal.find(GetParam().message), std::string::npos) << "got '" << refusal << "'";
}

using O = TransformerWrapperOptions;
using I = TransformerInputs;
INSTANTIATE_TEST_SUITE_P(
    All, RefusedCall,
    testing::Values(
        Call{"x: 9 at position [1, 2], expected 0 to 8 (num_tokens is 9)", [](O&) {},
             [](I& i) { i.x[1][2] = 9; }},
        Call{"x: -1 at position [0, 0], expected 0 to 8 (num_tokens is 9)", [](O&) {},
             [](I& i) { i.x[0][0] = -1; }},
        Call{"pos: 8 at position [3], expected 0 to 7 (max_seq_len is 8)", [](O&) {},
             [](I& i) { i.pos = at::arange(5, 9); }},
        Call{"embed_ids.part: 3 at position [1, 3], expected 0 to 2 (embed_num_tokens is 3)",
             [](O& o) {
               o.embed_num_tokens = {{"part", 3}};
             },
             [](I& i) {
               i.embed_ids["part"] = at::zeros({2, kTokens}, at::kLong);
               i.embed_ids["part"][1][3] = 3;
             }},
        Call{"condition: is needed by the adaptive norm or scale",
             [](O& o) { o.attn_layers.use_adaptive_rmsnorm = true; }, [](I&) {}},
        Call{"condition: given, but no adaptive norm", [](O&) {},
             [](I& i) {
               i.layers.condition = at::zeros({2, kDim});
             }},
        Call{"condition: expected floats [batch = 2, dim_condition = 16], got Float [2, 3]",
             [](O& o) { o.attn_layers.use_adaptive_layerscale = true; },
             [](I& i) {
               i.layers.condition = at::zeros({2, 3});
             }},
        Call{"condition: expected floats [batch = 2, dim_condition = 16], got Float [16]",
             [](O& o) { o.attn_layers.use_adaptive_rmsnorm = true; },
             [](I& i) { i.layers.condition = at::zeros({kDim}); }},
        Call{"condition: expected floats [batch = 2, seq = 4, dim_condition = 16]",
             [](O& o) { o.attn_layers.use_adaptive_rmsnorm = true; },
             [](I& i) {
               i.layers.condition = at::zeros({2, 3, kDim});
             }},
        Call{"in_attn_cond: expected floats [batch = 2, seq = 4, dim = 16]", [](O&) {},
             [](I& i) {
               i.layers.in_attn_cond = at::zeros({2, 3, kDim});
             }},
        Call{"self_attn_kv_residuals: expected floats broadcast to [batch = 2, seq = 4,", [](O&) {},
             [](I& i) {
               i.layers.self_attn_kv_residuals = {at::zeros({2, 3, kDim})};
             }},
        Call{"cross_attn_kv_residuals: expected floats broadcast to [batch = 2, context = 5,",
             [](O& o) { o.attn_layers.cross_attend = true; },
             [](I& i) {
               i.layers.context = at::zeros({2, 5, kDim});
               i.layers.cross_attn_kv_residuals = {at::zeros({2, 3, kDim})};
             }},
        Call{"context_pos: expected positions [seq = 5]",
             [](O& o) { o.attn_layers.cross_attend = o.attn_layers.rotary_pos_emb = true; },
             [](I& i) {
               i.layers.context = at::zeros({2, 5, kDim});
               i.layers.context_pos = at::arange(4);
             }},
        Call{"self_attn_kv_mask: has entries for 3 keys, but there are 4", [](O&) {},
             [](I& i) {
               i.layers.self_attn_kv_mask = at::ones({2, 3}, at::kBool);
             }},
        Call{"self_attn_kv_mask: has entries for 3 keys, but there are 6",
             [](O& o) { o.num_memory_tokens = 2; },
             [](I& i) {
               i.layers.self_attn_kv_mask = at::ones({2, 3}, at::kBool);
             }},
        Call{"attn_mask: expected bool broadcast to [batch = 2, heads = 2, queries = 4, keys = 4]",
             [](O&) {},
             [](I& i) {
               i.layers.attn_mask = at::ones({4, 3}, at::kBool);
             }},
        Call{"attn_mask: expected bool broadcast to [batch = 2, heads = 2, queries = 6, keys = 6]",
             [](O& o) { o.num_memory_tokens = 2; },
             [](I& i) {
               i.layers.attn_mask = at::ones({4, 4}, at::kBool);
             }},
        Call{"attn_mask: expected 2 to 4 dimensions, got 1", [](O&) {},
             [](I& i) { i.layers.attn_mask = at::ones({4}, at::kBool); }},
        Call{
            "attn_bias: expected floats broadcast to [batch = 2, heads = 2, queries = 4, keys = 4]",
            [](O&) {},
            [](I& i) {
              i.layers.attn_bias = at::zeros({3, 4, 4});
            }},
        Call{"self_attn_additional_kv: expected floats [batch = 2, heads, keys, dim_head = 8]",
             [](O&) {},
             [](I& i) {
               i.layers.self_attn_additional_kv = {
                   {at::zeros({2, 2, 1, 7}), at::zeros({2, 2, 1, 8})}};
             }},
        Call{"additional_kv_mask: expected bool [batch = 2, keys = 1]", [](O&) {},
             [](I& i) {
               i.layers.self_attn_additional_kv = {
                   {at::zeros({2, 2, 1, 8}), at::zeros({2, 2, 1, 8})}};
               i.layers.additional_kv_mask = at::ones({2, 3}, at::kBool);
             }},
        Call{"pos: expected integers broadcast to [batch = 2, seq = 4], got Long [3]", [](O&) {},
             [](I& i) { i.pos = at::arange(3); }},
        Call{"pos: expected floats broadcast to [batch = 2, seq = 4, emb_dim = 16]", [](O&) {},
             [](I& i) {
               i.pos = at::zeros({3, kDim});
             }},
        Call{"pos: expected positions [seq = 6]",
             [](O& o) {
               o.attn_layers.rotary_pos_emb = true;
               o.num_memory_tokens = 2;
             },
             [](I& i) { i.pos = at::arange(4); }},
        Call{"pos: a position bias takes 4 positions, one for each token, and no mems",
             [](O& o) {
               o.attn_layers.alibi_pos_bias = true;
               o.use_abs_pos_emb = false;
             },
             [](I& i) {
               i.pos = at::arange(7);
               i.mems = {at::zeros({2, 3, kDim}), at::zeros({2, 3, kDim})};
             }},
        Call{"rotary_pos_emb: expected angles [1 or batch = 2, positions = 4 or more",
             [](O& o) { o.attn_layers.rotary_pos_emb = true; },
             [](I& i) {
               i.layers.rotary_pos_emb.freqs = at::zeros({1, 3, 4});
             }},
        Call{"polar_pos_emb: expected angles [1 or batch = 2, positions = 4 or more", [](O&) {},
             [](I& i) {
               i.layers.polar_pos_emb.angles = at::zeros({1, 1, 3, 8});
               i.layers.polar_pos_emb.key_bias = at::zeros({2, 1, 8});
             }},
        Call{"sum_embeds: expected floats broadcast to [batch = 2, seq = 4, emb_dim = 16]",
             [](O&) {},
             [](I& i) {
               i.sum_embeds = at::zeros({2, 3, kDim});
             }},
        Call{"deep_embeds_and_ids: given, but ff_deep_embed has factors",
             [](O& o) { o.ff_deep_embed = true; },
             [](I& i) {
               i.layers.deep_embeds = at::zeros({2, kTokens, 2, kDim});
             }},
        Call{"ff_deep_embed: has no factors for what is no token",
             [](O& o) { o.ff_deep_embed = true; },
             [](I& i) {
               i.prepend_embeds = at::zeros({2, 3, kDim});
             }},
        Call{"average_pool_embed: the mean over the tokens of a mask",
             [](O& o) { o.average_pool_embed = true; },
             [](I& i) {
               i.prepend_embeds = at::zeros({2, 3, kDim});
               i.mask = at::ones({2, kTokens}, at::kBool);
             }},
        Call{"attn_pool: average_pool_embed leaves no sequence to pool",
             [](O& o) { o.average_pool_embed = o.attn_pool = true; },
             [](I& i) { i.attn_pool = true; }},
        Call{"integrate_layers: each layer weighs those before it",
             [](O& o) { o.attn_layers.integrate_layers = true; },
             [](I& i) {
               i.layers.layers_execute_order = {{0, 1, 0, 1}};
             }},
        Call{"deep_embeds_and_ids: expected floats [batch = 2, seq = 4, depth, dim = 16]",
             [](O&) {},
             [](I& i) {
               i.layers.deep_embeds = at::zeros({2, 3, 2, kDim});
             }},
        Call{"attn_bias: given, but the stack has a position bias",
             [](O& o) { o.attn_layers.alibi_pos_bias = true; },
             [](I& i) {
               i.layers.attn_bias = at::zeros({kTokens, kTokens});
             }},
        Call{"in_attn_cond: cannot be combined with reinject_input",
             [](O& o) { o.attn_layers.reinject_input = true; },
             [](I& i) {
               i.layers.in_attn_cond = at::zeros({2, kDim});
             }},
        Call{"pos: of the position biases only ALiBi",
             [](O& o) { o.attn_layers.rel_pos_bias = true; },
             [](I& i) { i.pos = at::arange(kTokens); }},
        Call{"context: is needed, as cross_attend is on",
             [](O& o) { o.attn_layers.cross_attend = true; }, [](I&) {}},
        Call{"recycle_steps: needs a model with recycling", [](O&) {},
             [](I& i) { i.recycle_steps = 2; }},
        Call{"recycle_steps: is needed outside training", [](O& o) { o.recycling = true; },
             [](I&) {}},
        Call{"return_next_embed_pred: needs add_continuous_pred_head", [](O&) {},
             [](I& i) { i.next_embed_pred = true; }},
        Call{"embed_ids: expected 1 (embed_num_tokens), got 0",
             [](O& o) {
               o.embed_num_tokens = {{"kind", 3}};
             },
             [](I&) {}},
        Call{"embed_ids: 'part' is not in embed_num_tokens",
             [](O& o) {
               o.embed_num_tokens = {{"kind", 3}};
             },
             [](I& i) {
               i.embed_ids["part"] = at::zeros({2, kTokens}, at::kLong);
             }},
        Call{"prefix_attn_len: is for a PrefixDecoder", [](O&) {},
             [](I& i) { i.layers.prefix_attn_len = at::ones({2}, at::kLong); }},
        Call{"layers_execute_order: layer 4 of 4 does not exist", [](O&) {},
             [](I& i) {
               i.layers.layers_execute_order = {{0, 4}};
             }}));

TEST(RefusedCall, OfPartsAlone) {
  const auto refusal = [](const AttentionOptions& options, const AttentionInputs& inputs) {
    try {
      Attention module(options);
      module->forward(inputs);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  AttentionOptions options;
  options.dim = kDim;
  options.heads = 2;
  options.dim_head = 8;
  AttentionInputs inputs;
  inputs.x = at::zeros({2, kTokens, kDim});
  EXPECT_EQ(refusal(options, inputs), "");
  auto given = inputs;
  given.additional_key_values = {at::zeros({2, 3, 1, 8}), at::zeros({2, 3, 1, 8})};
  EXPECT_NE(refusal(options, given).find("3 heads do not divide heads = 2"), std::string::npos);
  const auto expect = [&](const char* message, void (*change)(AttentionInputs&)) {
    auto changed = inputs;
    change(changed);
    EXPECT_NE(refusal(options, changed).find(message), std::string::npos)
        << "got '" << refusal(options, changed) << "', expected '" << message << "'";
  };
  using Inputs = AttentionInputs;
  expect("x: expected floats [batch, seq, dim = 16], got Long [2, 4, 16]",
         [](Inputs& i) { i.x = i.x.to(at::kLong); });
  expect("x: expected floats [batch, seq, dim = 16], got Float [2, 4, 15]",
         [](Inputs& i) { i.x = i.x.narrow(2, 0, 15); });
  expect("context: expected floats [batch = 2, context, dim_context = 16]", [](Inputs& i) {
    i.context = at::zeros({2, 3, 8});
  });
  expect("context_mask: expected one entry for each of 3 keys, got 2", [](Inputs& i) {
    i.context = at::zeros({2, 3, kDim});
    i.context_mask = at::ones({2, 2}, at::kBool);
  });
  expect("mem: expected floats [batch = 2, memory, dim = 16]", [](Inputs& i) {
    i.mem = at::zeros({2, 3, 8});
  });
  expect("mem_mask: expected bool [batch = 2, memory = 3]", [](Inputs& i) {
    i.mem = at::zeros({2, 3, kDim});
    i.mem_mask = at::ones({2, 2}, at::kBool);
  });
  expect("kv_input_residual: expected floats broadcast to [batch = 2, seq = 4, dim = 16]",
         [](Inputs& i) {
           i.kv_input_residual = at::zeros({2, 3, kDim});
         });
  expect("value_residual: expected floats broadcast to [batch = 2, heads = 2, keys = 4,",
         [](Inputs& i) {
           i.value_residual = at::zeros({2, 2, 3, 8});
         });
  expect("prev_attn: has scores of 3 keys, expected 4", [](Inputs& i) {
    i.prev_attn = at::zeros({2, 2, 4, 3});
  });
  options.add_zero_kv = true;
  auto with_zero_key = inputs;
  with_zero_key.prev_attn = at::zeros({2, 2, 4, 5});
  EXPECT_EQ(refusal(options, with_zero_key), "");
  options.add_zero_kv = false;
  options.dim_context = 8;
  EXPECT_EQ(refusal(options, inputs), "dim_context: 8 is not dim = 16, so a context is needed");
  options.dim_context.reset();
  options.orthog_projected_values = true;
  expect("orthog_projected_values: need a value for each of 4 queries, but the context has 3",
         [](Inputs& i) {
           i.context = at::zeros({2, 3, kDim});
         });
  options.orthog_projected_values = false;
  options.qkv_receive_diff_residuals = true;
  EXPECT_EQ(refusal(options, inputs), "x: expected three views [3, b, n, dim]");
  auto views = inputs;
  views.x = at::zeros({3, 2, kTokens, kDim});
  EXPECT_EQ(refusal(options, views), "");
  views.context = inputs.x;
  EXPECT_EQ(refusal(options, views), "qkv_receive_diff_residuals: only for self-attention");
}

}  // namespace
}  // namespace x_transformers::refused_calls_test
