#include "x_transformers/inspect/inspection.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "x_transformers/compare/text_evaluation.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/json.h"
#include "x_transformers/inspect/inspection_files.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/train/language_model.h"

namespace x_transformers {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

/// A small decoder with these options of its stack, and of its net.
std::shared_ptr<Model> decoder(const std::string& layers = R"("rotary_pos_emb": true)",
                               const std::string& net = "") {
  at::manual_seed(1);
  return build_trainable_model(
      Json::parse(R"({"type": "AutoregressiveWrapper", "net": {"type": "TransformerWrapper",
        "num_tokens": 11, "max_seq_len": 16, )" +
                  net + R"("attn_layers": {"type": "Decoder", "dim": 16, "depth": 2, "heads": 2,
        "attn_dim_head": 8, )" +
                  layers + "}}}"),
      "model");
}

at::Tensor some_tokens(int64_t count, int64_t seed = 2) {
  at::manual_seed(seed);
  return at::randint(0, 11, {count}, at::kLong);
}

void expect_rows_of_one(const AttentionView& view) {
  EXPECT_LT((view.weights.sum(-1) - 1).abs().max().item<double>(), 1e-5) << view.name;
}

/// What must hold of every model that predicts tokens.
void expect_consistent(Model& model, const Inspection& found, const at::Tensor& tokens) {
  const auto evaluated = evaluate_tokens(model, tokens, tokens.size(0) - 1, 0, at::kCPU);
  EXPECT_NEAR(found.loss, evaluated.loss, 1e-5);
  double sum = 0;
  for (size_t i = 1; i < found.tokens.size(); ++i) sum += *found.tokens[i].loss;
  EXPECT_NEAR(sum / static_cast<double>(found.tokens.size() - 1), found.loss, 1e-9);
  EXPECT_FALSE(found.tokens[0].loss.has_value());
  if (found.lens.empty()) return;
  // Read off behind the last layer, logits are the model's.
  for (size_t i = 1; i < found.tokens.size(); ++i)
    EXPECT_NEAR(found.lens.back().losses[i - 1], *found.tokens[i].loss, 1e-5);
}

TEST(InspectionTest, ShowsWhatTheModelComputes) {
  const auto model = decoder();
  const auto tokens = some_tokens(9);
  const auto found = inspect_model(*model, tokens);
  expect_consistent(*model, found, tokens);
  ASSERT_EQ(found.layers.size(), 4U);
  EXPECT_EQ(found.layers[0].kind, "self attention");
  EXPECT_EQ(found.layers[1].kind, "feed-forward");
  ASSERT_EQ(found.attentions.size(), 2U);
  ASSERT_EQ(found.lens.size(), 5U);
  EXPECT_EQ(found.lens.front().after, "embedding");
  EXPECT_EQ(found.lens.back().after, found.layers.back().name);
  for (const auto& view : found.attentions) {
    EXPECT_EQ(view.weights.sizes(), (std::vector<int64_t>{2, 8, 8}));
    expect_rows_of_one(view);
    EXPECT_EQ(view.weights.triu(1).abs().max().item<double>(), 0);  // causal
    EXPECT_EQ(view.front_keys, 0);
    for (const auto& head : view.heads) {
      EXPECT_GE(*head.entropy, 0);
      EXPECT_LE(*head.entropy, std::log(8.0));
      EXPECT_GE(*head.first, 0);
    }
  }
  // The stream behind a layer is what the next begins with.
  EXPECT_DOUBLE_EQ(found.layers[0].stream, found.layers[1].stream_before);
  EXPECT_THAT(left_out_sentences(found), Contains(HasSubstr("no gates")));
  EXPECT_THAT(left_out_sentences(found), Contains(HasSubstr("no curves of position bias")));
}

TEST(InspectionTest, LeavesTheModelAsItWas) {
  const auto model = decoder();
  const auto tokens = some_tokens(9);
  const auto before = model->loss({{"x", tokens.unsqueeze(0)}}).item<double>();
  inspect_model(*model, tokens);
  EXPECT_TRUE(model->module().is_training());
  EXPECT_EQ(model->loss({{"x", tokens.unsqueeze(0)}}).item<double>(), before);
}

/// The maps are those that the model itself hands out.
TEST(InspectionTest, HasTheWeightsOfTheModelsOwnIntermediates) {
  const auto model = decoder(R"("alibi_pos_bias": true, "attn_num_mem_kv": 2)");
  const auto tokens = some_tokens(9);
  const auto found = inspect_model(*model, tokens);
  const Evaluation evaluation(model->module());
  const auto net = build_model(Json::parse(R"({"type": "TransformerWrapper", "num_tokens": 11,
        "max_seq_len": 16, "attn_layers": {"type": "Decoder", "dim": 16, "depth": 2, "heads": 2,
        "attn_dim_head": 8, "alibi_pos_bias": true, "attn_num_mem_kv": 2}})"),
                               "net");
  const at::NoGradGuard no_grad;
  const auto own = predictor_of(*model).predicting_net()->named_parameters();
  for (auto& parameter : net->module().named_parameters())
    parameter.value().set_data(own[parameter.key()]);
  const auto outputs = run_model(*net, "forward", {{"x", tokens.slice(0, 0, 8).unsqueeze(0)}},
                                 Json{{"return_attn", true}}, false);
  for (size_t i = 0; i < found.attentions.size(); ++i) {
    const auto map = outputs.at("out.1." + std::to_string(i)).select(0, 0);
    EXPECT_TRUE(at::allclose(found.attentions[i].weights, map, 1e-5, 1e-6)) << i;
  }
}

/// What x-transformers 2.16.1 hands out of the same model (make_golden.py).
TEST(InspectionTest, HasTheNumbersOfPython) {
  const auto golden = read_json_file(XT_TEST_DATA "/inspect.json");
  const auto model = build_trainable_model(golden["config"], "model");
  const at::NoGradGuard no_grad;
  auto own = predictor_of(*model).predicting_net()->named_parameters();
  for (const auto& [name, weight] : golden["weights"].items()) {
    auto* parameter = own.find(name);
    if (parameter == nullptr) continue;  // a buffer
    const auto values = at::tensor(weight["values"].get<std::vector<double>>(), at::kFloat);
    parameter->set_data(values.view(weight["shape"].get<std::vector<int64_t>>()));
  }
  const auto found =
      inspect_model(*model, at::tensor(golden["tokens"].get<std::vector<int64_t>>(), at::kLong));
  EXPECT_NEAR(found.loss, golden["loss"].get<double>(), 2e-5);
  const auto losses = golden["losses"].get<std::vector<double>>();
  ASSERT_EQ(found.tokens.size(), losses.size() + 1);
  for (size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(*found.tokens[i + 1].loss, losses[i], 2e-5);
  ASSERT_EQ(found.attentions.size(), golden["attention"].size());
  for (size_t i = 0; i < found.attentions.size(); ++i) {
    const auto map = at::tensor(golden["attention"][i].get<std::vector<double>>(), at::kFloat);
    EXPECT_TRUE(at::allclose(found.attentions[i].weights.flatten(), map, 1e-4, 2e-5)) << i;
  }
  // Python has the inputs of all layers, and the output of the last.
  const auto norms = golden["layer_norms"].get<std::vector<double>>();
  ASSERT_EQ(norms.size(), found.layers.size() + 1);
  for (size_t i = 0; i < found.layers.size(); ++i) {
    EXPECT_NEAR(found.layers[i].stream_before, norms[i], 2e-5);
    EXPECT_NEAR(found.layers[i].stream, norms[i + 1], 2e-5);
  }
}

TEST(InspectionTest, DrawsCurvesOfPositionBias) {
  const auto model = decoder(R"("alibi_pos_bias": true)");
  const auto found = inspect_model(*model, some_tokens(9));
  for (const auto& view : found.attentions) {
    ASSERT_TRUE(view.bias.defined());
    EXPECT_EQ(view.bias.sizes(), (std::vector<int64_t>{2, 8}));
    EXPECT_EQ(view.bias_query, 7);
    // Two heads: slopes 1/16 and 1/256.
    EXPECT_NEAR(view.bias[0][0].item<double>(), -7.0 / 16, 1e-6);
    EXPECT_NEAR(view.bias[1][5].item<double>(), -2.0 / 256, 1e-6);
    EXPECT_EQ(view.bias[0][7].item<double>(), 0);
  }
}

TEST(InspectionTest, TellsSinksAndMemoryFromTokens) {
  const auto model = decoder(R"("rotary_pos_emb": true, "attn_head_learned_sink": true,
        "attn_num_mem_kv": 3, "attn_add_zero_kv": true)",
                             R"("num_memory_tokens": 2, )");
  const auto tokens = some_tokens(9);
  const auto found = inspect_model(*model, tokens);
  expect_consistent(*model, found, tokens);
  for (const auto& view : found.attentions) {
    EXPECT_TRUE(view.has_sink);
    EXPECT_EQ(view.front_keys, 1 + 1 + 3);
    EXPECT_EQ(view.front_queries, 2);
    EXPECT_EQ(view.weights.sizes(), (std::vector<int64_t>{2, 10, 15}));
    expect_rows_of_one(view);
    for (size_t h = 0; h < 2; ++h) {
      const auto rows = view.weights[static_cast<int64_t>(h)].slice(0, 2);
      const auto& head = view.heads[h];
      EXPECT_NEAR(head.sink, rows.select(1, 0).mean().item<double>(), 1e-6);
      EXPECT_NEAR(head.zero, rows.select(1, 1).mean().item<double>(), 1e-6);
      EXPECT_NEAR(head.memory, rows.slice(1, 2, 5).sum(1).mean().item<double>(), 1e-6);
      EXPECT_GT(head.sink, 0);
    }
  }
}

TEST(InspectionTest, ShowsGates) {
  const auto model = decoder(R"("rotary_pos_emb": true, "attn_gate_values": true,
        "attn_gate_value_heads": true, "add_value_residual": true)");
  const auto found = inspect_model(*model, some_tokens(9));
  std::vector<std::string> names;
  for (const auto& layer : found.layers) {
    for (const auto& gate : layer.gates) {
      names.push_back(gate.name);
      EXPECT_LE(gate.low, gate.mean);
      EXPECT_LE(gate.mean, gate.high);
      EXPECT_LE(gate.high, 1);
    }
  }
  EXPECT_THAT(names, Contains("value gates"));
  EXPECT_THAT(names, Contains("head gates"));
  EXPECT_THAT(names, Contains("value residual mix"));
  EXPECT_THAT(left_out_sentences(found), Not(Contains(HasSubstr("no gates"))));
}

class EveryStackTest : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryStackTest, CanBeSeenInto) {
  const auto model = decoder(GetParam());
  const auto tokens = some_tokens(9);
  const auto found = inspect_model(*model, tokens);
  expect_consistent(*model, found, tokens);
  EXPECT_FALSE(found.attentions.empty());
  EXPECT_FALSE(found.lens.empty());
  const TokenNames names(nullptr);
  EXPECT_FALSE(inspection_json(found, names).dump().empty());
  EXPECT_FALSE(inspection_pictures(found, names, {}).empty());
  EXPECT_THAT(inspection_html(found, names, {.title = "a model"}), HasSubstr("Logit lens"));
}

INSTANTIATE_TEST_SUITE_P(
    Stacks, EveryStackTest,
    ::testing::Values(R"("rotary_pos_emb": true, "macaron": true)", R"("sandwich_norm": true)",
                      R"("resi_dual": true, "pre_norm": false)", R"("pre_norm": false)",
                      R"("num_residual_streams": 3)", R"("gate_residual": true)",
                      R"("rel_pos_bias": true, "residual_attn": true)",
                      R"("dynamic_pos_bias": true, "attn_kv_heads": 1)",
                      R"("attn_data_dependent_alibi": true)", R"("attn_use_cope": true)",
                      R"("polar_pos_emb": true, "shift_tokens": 1)", R"("attn_sigmoid": true)",
                      R"("attn_cog_signed": true)",
                      R"("attn_pre_talking_heads": true, "attn_post_talking_heads": true)",
                      R"("attn_use_latent_kv": true, "attn_dim_latent_kv": 8)",
                      R"("integrate_layers": true, "unet_skips": true)",
                      R"("custom_layers": ["a", "f", "f", "a"], "depth": null)",
                      R"("attn_sparse_topk": 2, "attn_max_attend_past": 4)",
                      R"("weight_tie_layers": true, "softclamp_output": true)",
                      R"("use_layerscale": true, "attn_laser": true, "attn_on_attn": true)"));

TEST(InspectionTest, SeesIntoATranslation) {
  at::manual_seed(1);
  const auto model = build_model(
      Json::parse(R"({"type": "XTransformer", "dim": 16, "enc_num_tokens": 11, "enc_depth": 1,
        "enc_heads": 2, "enc_max_seq_len": 16, "dec_num_tokens": 11, "dec_depth": 1,
        "dec_heads": 2, "dec_max_seq_len": 16})"),
      "model");
  const auto source = some_tokens(6, 3), target = some_tokens(5);
  const auto found = inspect_model(*model, target, source);
  EXPECT_EQ(found.source.size(), 6U);
  ASSERT_EQ(found.attentions.size(), 3U);
  EXPECT_TRUE(found.attentions[0].of_source);
  EXPECT_EQ(found.attentions[0].weights.sizes(), (std::vector<int64_t>{2, 6, 6}));
  EXPECT_EQ(found.attentions[1].weights.sizes(), (std::vector<int64_t>{2, 4, 4}));
  EXPECT_TRUE(found.attentions[2].is_cross);
  EXPECT_EQ(found.attentions[2].weights.sizes(), (std::vector<int64_t>{2, 4, 6}));
  EXPECT_NEAR(
      found.loss,
      model->loss({{"src", source.unsqueeze(0)}, {"tgt", target.unsqueeze(0)}}).item<double>(),
      1e-5);
  for (size_t i = 1; i < found.tokens.size(); ++i)
    EXPECT_NEAR(found.lens.back().losses[i - 1], *found.tokens[i].loss, 1e-5);
  EXPECT_THROW(inspect_model(*model, target), InputError);
}

TEST(InspectionTest, SaysWhatAModelWithoutMapsHas) {
  at::manual_seed(1);
  const auto model = build_trainable_model(
      Json::parse(R"({"type": "FLASHAutoregressiveWrapper", "net": {"type": "FLASHTransformer",
        "num_tokens": 11, "dim": 16, "depth": 2, "causal": true, "group_size": 4}})"),
      "model");
  const auto tokens = some_tokens(9);
  const auto found = inspect_model(*model, tokens);
  expect_consistent(*model, found, tokens);
  EXPECT_TRUE(found.attentions.empty());
  ASSERT_EQ(found.layers.size(), 2U);
  EXPECT_EQ(found.layers[0].kind, "gated attention");
  EXPECT_EQ(found.lens.size(), 3U);
  EXPECT_THAT(left_out_sentences(found), Contains(HasSubstr("no attention maps")));
}

TEST(InspectionTest, RefusesTextsThatDoNotFit) {
  const auto model = decoder();
  EXPECT_THROW(inspect_model(*model, some_tokens(1)), InputError);
  EXPECT_THROW(inspect_model(*model, some_tokens(18)), InputError);  // 17 to go on from
  const auto found = inspect_model(*model, some_tokens(9));
  EXPECT_THROW(require_chosen({.layers = {2}}, found), InputError);
  EXPECT_THROW(require_chosen({.heads = {-1}}, found), InputError);
  require_chosen({.layers = {1}, .heads = {0, 1}}, found);
}

TEST(InspectionFiles, SpellTokensOut) {
  const auto bytes = make_tokenizer("bytes");
  const TokenNames names(bytes.get());
  EXPECT_EQ(names('a'), "a");
  EXPECT_EQ(names(' '), "␣");
  EXPECT_EQ(names('\n'), "⏎");
  EXPECT_EQ(names(0xe2), "\\xe2");
  EXPECT_EQ(names(7), "\\x07");
  EXPECT_EQ(TokenNames(nullptr)(12), "12");
}

TEST(InspectionFiles, HaveARowEach) {
  const auto model = decoder();
  const auto found = inspect_model(*model, some_tokens(9));
  const TokenNames names(nullptr);
  const auto lines = [](const std::string& text) {
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(lines(tokens_tsv(found, names)), 1 + 9);
  EXPECT_EQ(lines(layers_tsv(found)), 1 + 4);
  EXPECT_EQ(lines(heads_tsv(found)), 1 + 4);
  const auto json = inspection_json(found, names);
  EXPECT_EQ(json["tokens"].size(), 9U);
  EXPECT_TRUE(json["tokens"][0]["loss"].is_null());
  EXPECT_EQ(json["attentions"][0]["heads"].size(), 2U);
  EXPECT_EQ(attention_maps(found).size(), 2U);
}

TEST(InspectionFiles, ArePagesThatAskForNothing) {
  const auto model = decoder();
  auto found = inspect_model(*model, some_tokens(9));
  const auto html = inspection_html(found, TokenNames(nullptr),
                                    {.title = "a < b", .pictures = {{"P", "<svg></svg>"}}});
  EXPECT_THAT(html, HasSubstr("a &lt; b"));
  EXPECT_THAT(html, Not(HasSubstr("http")));
  EXPECT_THAT(html, Not(HasSubstr("src=")));
}

}  // namespace
}  // namespace x_transformers
