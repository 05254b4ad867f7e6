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
    testing::Values(Call{"condition: is needed by the adaptive norm or scale",
                         [](O& o) { o.attn_layers.use_adaptive_rmsnorm = true; }, [](I&) {}},
                    Call{"condition: given, but no adaptive norm", [](O&) {},
                         [](I& i) {
                           i.layers.condition = at::zeros({2, kDim});
                         }},
                    Call{"condition: expected 16 features, got 3",
                         [](O& o) { o.attn_layers.use_adaptive_layerscale = true; },
                         [](I& i) {
                           i.layers.condition = at::zeros({2, 3});
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
                    Call{"recycle_steps: is needed outside training",
                         [](O& o) { o.recycling = true; }, [](I&) {}},
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
                    Call{"shift_mem_down: is more than the number of memories",
                         [](O& o) { o.shift_mem_down = 2; },
                         [](I& i) {
                           i.mems = {at::zeros({2, 3, kDim})};
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
  auto with_pos = inputs;
  with_pos.pos = at::arange(kTokens);
  EXPECT_EQ(refusal(options, with_pos), "pos: needs rel_pos, the position bias that it is for");
  auto given = inputs;
  given.additional_key_values = {at::zeros({2, 3, 1, 8}), at::zeros({2, 3, 1, 8})};
  EXPECT_NE(refusal(options, given).find("3 heads do not divide heads = 2"), std::string::npos);
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
