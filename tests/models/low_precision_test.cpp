// Models with bfloat16 parameters, as `train` with precision bf16 and `forward --dtype bfloat16`
// have them, against float32: every option that touches scores.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {
namespace {

struct Case {
  const char* name;
  const char* layers;
  /// What the option makes of masked scores, where the plain model's error says nothing of it.
  at::Tensor (*weights)(const at::Tensor& scores) = nullptr;
};

/// attn_cog_signed by its formula, sign(s) * softmax(|s|), from the scores on in float32.
///
/// Scores near 0 have another sign once queries and keys are rounded, and a weight w that becomes
/// -w is off by 2 w. That, and not that signed weights cancel, is what rounding costs here: with
/// the signs of exact scores Python's bfloat16 attention loses what its softmax loses, with its own
/// three to five times as much.
at::Tensor signed_weights(const at::Tensor& scores) {
  const auto exact = scores.to(at::kFloat);
  const auto hidden = exact < -1e30;
  const auto sizes = exact.abs().masked_fill(hidden, -INFINITY);
  return (at::softmax(sizes, -1) * exact.sign()).to(scores.scalar_type());
}

void PrintTo(const Case& item, std::ostream* out) { *out << item.name; }

class LowPrecision : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(
    Options, LowPrecision,
    testing::Values(
        Case{"Plain", "{}"}, Case{"Sigmoid", R"({"attn_sigmoid": true})"},
        Case{"SigmoidAlibi", R"({"attn_sigmoid": true, "alibi_pos_bias": true})"},
        Case{"SigmoidRelPos", R"({"attn_sigmoid": true, "rel_pos_bias": true})"},
        Case{"SigmoidDynamicPos", R"({"attn_sigmoid": true, "dynamic_pos_bias": true})"},
        Case{"PreTalkingHeads", R"({"attn_pre_talking_heads": true})"},
        Case{"PostTalkingHeads", R"({"attn_post_talking_heads": true})"},
        Case{"PreScalePostTalkingHeads", R"({"attn_pre_scale_post_talking_heads": true})"},
        Case{"ResidualAttention", R"({"residual_attn": true})"},
        Case{"LearnedSink", R"({"attn_head_learned_sink": true})"},
        Case{"Selective", R"({"attn_selective": true})"},
        Case{"CogSigned", R"({"attn_cog_signed": true})", signed_weights},
        Case{"Cope", R"({"attn_use_cope": true})"},
        Case{"CopeSoftOnehot", R"({"attn_use_cope": true, "attn_cope_soft_onehot_pos": true})"},
        Case{"CopeTalkingHeads", R"({"attn_use_cope": true, "attn_cope_talking_heads": true})"},
        Case{"L2Distance", R"({"attn_l2_distance": true})"},
        Case{"Softclamp", R"({"attn_softclamp_logits": true})"},
        Case{"ZeroKv", R"({"attn_sigmoid": true, "attn_add_zero_kv": true})"},
        Case{"QkNorm", R"({"attn_qk_norm": true, "attn_sigmoid": true})"},
        Case{"DataDependentAlibi", R"({"attn_data_dependent_alibi": true, "attn_sigmoid": true})"},
        Case{
            "PerRowAlibi",
            R"({"attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true, "attn_sigmoid": true})"},
        Case{"Polar", R"({"polar_pos_emb": true, "attn_sigmoid": true})"},
        Case{"Rotary", R"({"rotary_pos_emb": true, "attn_sigmoid": true})"},
        Case{"Xpos", R"({"rotary_xpos": true, "attn_sigmoid": true})"},
        Case{"Laser", R"({"attn_laser": true, "attn_sigmoid": true})"},
        Case{"OrthogonalValues", R"({"attn_orthog_projected_values": true})"}),
    [](const auto& info) { return std::string(info.param.name); });

/// A model with these options of its layers, in float32 and in bfloat16 with the same weights.
struct Pair {
  TransformerWrapper exact{nullptr}, low{nullptr};
};

using Weights = std::function<at::Tensor(const at::Tensor& scores)>;

Pair make_pair(const std::string& layers, int64_t seed, const Weights& weights = nullptr) {
  auto config = Json::parse(R"({"num_tokens": 19, "max_seq_len": 16, "attn_layers":
      {"type": "Decoder", "dim": 32, "depth": 2, "heads": 4, "attn_dim_head": 8}})");
  config["attn_layers"].update(Json::parse(layers));
  at::manual_seed(seed);
  Pair pair;
  auto options = options_from_json<TransformerWrapperOptions>(config, "net");
  if (weights) options.attn_layers.attn.custom_attn_fn = weights;
  pair.exact = TransformerWrapper(options);
  pair.low = TransformerWrapper(pair.exact->options());
  const at::NoGradGuard no_grad;
  // Values that both types hold.
  for (auto& parameter : pair.exact->parameters()) {
    parameter.copy_((parameter + 0.05 * at::randn_like(parameter)).to(at::kBFloat16));
  }
  const auto source = pair.exact->parameters(), target = pair.low->parameters();
  for (size_t i = 0; i < source.size(); ++i) target[i].set_data(source[i].to(at::kBFloat16));
  return pair;
}

TransformerInputs draw_inputs() {
  TransformerInputs inputs;
  inputs.x = at::randint(19, {2, 9}, at::kLong);
  inputs.layers.self_attn_kv_mask = at::arange(9) != at::tensor({3, 5}).unsqueeze(1);
  return inputs;
}

/// How far bfloat16 is from float32, as a share of the logits, over some models and inputs.
double error_of(const std::string& layers, const Weights& weights = nullptr) {
  constexpr int64_t kModels = 4;
  double error = 0;
  for (int64_t seed = 0; seed < kModels; ++seed) {
    auto pair = make_pair(layers, seed, weights);
    const auto inputs = draw_inputs();
    const at::NoGradGuard no_grad;
    const auto expected = pair.exact->forward(inputs).logits[0],
               logits = pair.low->forward(inputs).logits[0];
    error +=
        ((logits.to(at::kFloat) - expected).abs().mean() / expected.abs().mean()).item<double>();
  }
  return error / kModels;
}

/// These options run by the reference engine.
std::string on_reference(const char* layers) {
  auto config = Json::parse(layers);
  config["attn_attend_sdp_kwargs"] = {
      {"enable_flash", false}, {"enable_mem_efficient", false}, {"enable_cudnn", false}};
  return config.dump();
}

TEST_P(LowPrecision, LosesAtMostTwiceWhatTheReferenceLoses) {
  const double reference = error_of(on_reference(GetParam().layers));
  EXPECT_GT(reference, 0);
  EXPECT_LE(error_of(GetParam().layers), 2 * reference);
}

TEST_P(LowPrecision, LosesAtMostTwiceWhatThePlainModelOrTheFormulaLoses) {
  static const double plain = error_of("{}");
  const double own = GetParam().weights ? error_of("{}", GetParam().weights) : plain;
  EXPECT_LE(error_of(GetParam().layers), 2 * own);
}

TEST(LowPrecisionFormulas, SignedWeightsAreThoseOfTheOption) {
  auto option = make_pair(R"({"attn_cog_signed": true})", 1).exact;
  auto formula = make_pair("{}", 1, signed_weights).exact;
  const auto inputs = draw_inputs();
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::allclose(option->forward(inputs).logits[0], formula->forward(inputs).logits[0],
                           1e-4, 1e-6));
}

TEST_P(LowPrecision, HasFiniteGradients) {
  auto pair = make_pair(GetParam().layers, 3);
  const auto logits = pair.low->forward(draw_inputs()).logits[0];
  ASSERT_EQ(logits.scalar_type(), at::kBFloat16);
  logits.to(at::kFloat).square().mean().backward();
  for (const auto& item : pair.low->named_parameters()) {
    EXPECT_TRUE(!item.value().grad().defined() ||
                at::isfinite(item.value().grad()).all().item<bool>())
        << item.key();
  }
}

}  // namespace
}  // namespace x_transformers
