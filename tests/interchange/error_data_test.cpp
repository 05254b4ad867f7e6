// Errors and warnings of options through every layer that builds: which options they name, as data,
// and the line they become, in the spelling of the file.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/types_to_come.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers::error_data_test {
namespace {

using testing::ElementsAreArray;

const OptionPath kWhere = OptionPath("run.json:") / "model";

const char* const kAttention = R"({"type": "Attention", "dim": 16, "heads": 4, "causal": true})";
const char* const kStack =
    R"({"type": "Decoder", "dim": 16, "depth": 1, "heads": 4, "attn_dim_head": 8})";
const char* const kModel = R"({"type": "TransformerWrapper", "num_tokens": 7, "max_seq_len": 8,
    "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 4}})";
const char* const kWrapped = R"({"type": "AutoregressiveWrapper", "net":
    {"type": "TransformerWrapper", "num_tokens": 7, "max_seq_len": 8,
     "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 4}}})";
const char* const kSides = R"({"type": "XTransformer", "dim": 16, "enc_num_tokens": 7,
    "enc_max_seq_len": 8, "enc_depth": 1, "enc_heads": 4, "dec_num_tokens": 7,
    "dec_max_seq_len": 8, "dec_depth": 1, "dec_heads": 4})";
const char* const kPool = R"({"type": "AttentionPool", "dim": 16, "heads": 2, "dim_head": 8})";

struct Case {
  const char* model;
  const char* changes;               ///< merged over it
  std::vector<std::string> about;    ///< the options that the rule speaks of, below the place
  std::vector<std::string> further;  ///< other options that it names
  const char* line;                  ///< after the place
};

void PrintTo(const Case& item, std::ostream* out) { *out << item.changes; }

std::vector<std::string> joined(const std::vector<OptionPath>& paths) {
  std::vector<std::string> all;
  for (const auto& path : paths) {
    EXPECT_EQ(path.common_with(kWhere), 2U);
    all.push_back(path.without_front().without_front().joined());
  }
  return all;
}

class ErrorData : public testing::TestWithParam<Case> {};

TEST_P(ErrorData, NamesTheOptionsOfTheFile) {
  auto config = Json::parse(GetParam().model);
  ASSERT_NO_THROW(build_model(config, kWhere));
  config.merge_patch(Json::parse(GetParam().changes));
  try {
    build_model(config, kWhere);
    FAIL() << "not refused";
  } catch (const InputError& error) {
    const auto& notice = error.notice();
    EXPECT_THAT(joined(notice.about.options), ElementsAreArray(GetParam().about));
    auto all = GetParam().about;
    all.insert(all.end(), GetParam().further.begin(), GetParam().further.end());
    EXPECT_THAT(joined(notice.named()), ElementsAreArray(all));
    EXPECT_EQ(notice.line(), kWhere.joined() + GetParam().line);
    EXPECT_EQ(error.what(), notice.line());
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ErrorData,
    testing::Values(
        Case{kAttention,
             R"({"kv_heads": 3})",
             {"kv_heads"},
             {"heads"},
             ".kv_heads: expected a divisor of heads = 4, got 3"},
        Case{kAttention,
             R"({"hybrid_module": {"type": "GRU", "input_size": 0, "hidden_size": 1},
                 "hybrid_fold_axial_dim": 1})",
             {"hybrid_module.input_size"},
             {},
             ".hybrid_module.input_size: expected a positive number, got 0"},
        Case{kAttention,
             R"({"custom_attn_fn": "Sofmax"})",
             {"custom_attn_fn.type"},
             {},
             ".custom_attn_fn.type: unknown type 'Sofmax'; the nearest known one is 'Softmax'"},
        Case{kStack,
             R"({"attn_kv_heads": 3})",
             {"attn_kv_heads"},
             {"heads"},
             ".attn_kv_heads: expected a divisor of heads = 4, got 3"},
        Case{kStack,
             R"({"attn": {"kv_heads": 3}})",
             {"attn_kv_heads"},
             {"heads"},
             ".attn_kv_heads: expected a divisor of heads = 4, got 3"},
        Case{kStack,
             R"({"attn_qk_norm": true, "attn_qk_norm_groups": 3})",
             {"attn_qk_norm_groups"},
             {"attn_dim_head"},
             ".attn_qk_norm_groups: expected a divisor of attn_dim_head = 8, got 3"},
        Case{kStack,
             R"({"attn_kv_heads": 2, "attn_one_kv_head": true})",
             {"attn_kv_heads", "attn_one_kv_head"},
             {},
             ": attn_kv_heads and attn_one_kv_head: only one of them"},
        Case{kStack,
             R"({"ff_custom_activation": {"type": "RReLU", "lower": 2, "upper": 1}})",
             {"ff_custom_activation.lower"},
             {"ff_custom_activation.upper"},
             ".ff_custom_activation.lower: expected at most upper = 1, got 2"},
        Case{kStack,
             R"({"ff_mult": 0.01})",
             {"ff_mult"},
             {},
             ".ff_mult: 0.01 leaves no hidden features"},
        Case{kStack,
             R"({"cross_attend": true, "cross_attn_use_latent_kv": true})",
             {"cross_attn_use_latent_kv"},
             {"cross_attn_dim_latent_kv"},
             ".cross_attn_use_latent_kv: needs cross_attn_dim_latent_kv"},
        Case{kStack,
             R"({"cross_attend": true, "only_cross": true, "attn_use_latent_kv": true})",
             {"attn_use_latent_kv"},
             {"attn_dim_latent_kv"},
             ".attn_use_latent_kv: needs attn_dim_latent_kv"},
        Case{kStack,
             R"({"num_residual_streams": 2, "residual_fn_kwargs": {"num_residual_streams": 3}})",
             {"residual_fn_kwargs.num_residual_streams"},
             {"num_residual_streams"},
             ".residual_fn_kwargs.num_residual_streams: expected num_residual_streams = 2, got 3"},
        Case{kModel,
             R"({"attn_layers": {"attn_kv_heads": 3}})",
             {"attn_layers.attn_kv_heads"},
             {"attn_layers.heads"},
             ".attn_layers.attn_kv_heads: expected a divisor of heads = 4, got 3"},
        Case{kModel,
             R"({"attn_layers": {"attn_sigmoid": true, "attn_hard": true}})",
             {"attn_layers.attn_sigmoid", "attn_layers.attn_hard", "attn_layers.attn_l2_distance",
              "attn_layers.attn_gumbel_softmax", "attn_layers.attn_sparse_topk"},
             {},
             ".attn_layers: attn_sigmoid, attn_hard, attn_l2_distance, attn_gumbel_softmax and "
             "attn_sparse_topk: at most one of them"},
        Case{kModel,
             R"({"tie_embedding": true, "emb_dim": 8})",
             {"tie_embedding"},
             {"emb_dim", "attn_layers.dim"},
             ".tie_embedding: needs emb_dim = attn_layers.dim"},
        Case{kModel,
             R"({"to_logits": {"type": "Linear", "in_features": 16, "out_feature": 7}})",
             {"to_logits.out_feature"},
             {"to_logits.out_features"},
             ".to_logits.out_feature: unknown key; the nearest known one is 'out_features'"},
        Case{kModel,
             R"({"token_emb": {"type": "TransformerWrapper", "num_tokens": 3, "max_seq_len": 8,
                 "attn_layers": {"type": "Decoderr", "dim": 16}}})",
             {"token_emb.attn_layers.type"},
             {},
             ".token_emb.attn_layers.type: unknown type 'Decoderr'; the nearest known one is "
             "'Decoder'"},
        Case{kWrapped,
             R"({"net": {"attn_layers": {"attn_kv_heads": 3}}})",
             {"net.attn_layers.attn_kv_heads"},
             {"net.attn_layers.heads"},
             ".net.attn_layers.attn_kv_heads: expected a divisor of heads = 4, got 3"},
        Case{kWrapped,
             R"({"depth": 2})",
             {"depth"},
             {"net.attn_layers.depth"},
             ".depth: unknown key; it is 'net.attn_layers.depth'"},
        Case{kWrapped,
             R"({"net": {"attn_layers": {"max_seq_len": 2}}})",
             {"net.attn_layers.max_seq_len"},
             {},
             ".net.attn_layers.max_seq_len: unknown key; it is 'model.net.max_seq_len'"},
        Case{kWrapped,
             R"({"net": {"use_cls_token": true}})",
             {"net.use_cls_token"},
             {},
             ".net.use_cls_token: leaves no logits of each token to predict the next by"},
        Case{kSides,
             R"({"dec_attn_kv_heads": 3})",
             {"dec_attn_kv_heads"},
             {"dec_heads"},
             ".dec_attn_kv_heads: expected a divisor of dec_heads = 4, got 3"},
        Case{kSides,
             R"({"dec_cross_attn_kv_heads": 3})",
             {"dec_cross_attn_kv_heads"},
             {"dec_heads"},
             ".dec_cross_attn_kv_heads: expected a divisor of dec_heads = 4, got 3"},
        Case{kSides,
             R"({"enc_shift_tokens": 99})",
             {"enc_shift_tokens"},
             {"dim"},
             ".enc_shift_tokens: 99 cuts dim = 16 into too many parts"},
        Case{kSides,
             R"({"enc_ff_custom_activation": {"type": "Softshrink", "lambd": -1}})",
             {"enc_ff_custom_activation.lambd"},
             {},
             ".enc_ff_custom_activation.lambd: expected a number of 0 or more, got -1"},
        Case{kPool,
             R"({"attn_kwargs": {"qk_norm": true, "qk_norm_groups": 3}})",
             {"attn_kwargs.qk_norm_groups"},
             {"dim_head"},
             ".attn_kwargs.qk_norm_groups: expected a divisor of dim_head = 8, got 3"}));

TEST(ErrorData, HoldsWhatWasExpectedAndWhatWasGiven) {
  auto config = Json::parse(kModel);
  config["attn_layers"]["attn_kv_heads"] = 3;
  try {
    build_model(config, kWhere);
    FAIL() << "not refused";
  } catch (const InputError& error) {
    const auto heads = kWhere / "attn_layers" / "heads";
    EXPECT_EQ(error.notice().expected, text("a divisor of {} = {}", option(heads), 4));
    EXPECT_EQ(error.notice().given, "3");
    EXPECT_TRUE(error.notice().text.empty());
  }
}

/// A class of Python's that is not built is said to be so wherever a type may stand.
TEST(NotBuiltYet, IsSaidOfEveryPlaceOfAType) {
  if (types_to_come().empty()) GTEST_SKIP() << "all classes are built";
  const auto name = *types_to_come().begin();
  const auto expect_told = [&](const char* model, const char* place, const char* told) {
    auto config = Json::parse(model);
    config[Json::json_pointer(place)] = name;
    EXPECT_THAT([&] { build_model(config, kWhere); },
                testing::ThrowsMessage<InputError>(kWhere.joined() + told + ": " + name +
                                                   ": not built yet"))
        << place;
  };
  expect_told(kModel, "/type", ".type");
  expect_told(kModel, "/attn_layers/type", ".attn_layers.type");
  expect_told(kModel, "/token_emb", ".token_emb.type");
  expect_told(kModel, "/to_logits", ".to_logits.type");
  expect_told(kModel, "/attn_layers/attn_custom_attn_fn", ".attn_layers.attn_custom_attn_fn.type");
  expect_told(kModel, "/attn_layers/ff_custom_activation",
              ".attn_layers.ff_custom_activation.type");
  expect_told(kWrapped, "/net/type", ".net.type");
}

/// A net does not know that it is one of a wrapper; who calls the wrapper by name does.
TEST(ErrorData, ARunningModelNamesTheOptionsOfItsFile) {
  const auto refusal = [](const char* config, const TensorMap& inputs) {
    const auto model = build_model(Json::parse(config), kWhere);
    try {
      run_model(*model, "forward", inputs, Json::object(), false);
    } catch (const InputError& error) {
      return error.notice().line();
    }
    return std::string();
  };
  const auto wrong = at::full({1, 4}, 9);
  EXPECT_EQ(refusal(kModel, {{"x", wrong}}),
            "x: 9 at position [0, 0], expected 0 to 6 (num_tokens is 7)");
  EXPECT_EQ(refusal(kWrapped, {{"x", wrong}}),
            "x: 9 at position [0, 0], expected 0 to 6 (net.num_tokens is 7)");
}

}  // namespace
}  // namespace x_transformers::error_data_test
