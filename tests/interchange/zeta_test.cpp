// ZetaTransformer: x-transformers' TransformerWrapper where its documentation says nothing, with an
// embedding of any kind.
#include "x_transformers/models/zeta_transformer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers::zeta_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Json config(const Json& further = Json::object()) {
  Json config{{"type", "ZetaTransformer"},
              {"num_tokens", 17},
              {"max_seq_len", 10},
              {"attn_layers", {{"type", "Decoder"}, {"dim", 16}, {"depth", 2}, {"heads", 2}}}};
  config.merge_patch(further);
  return config;
}

/// The same as x-transformers has it.
Json wrapper_config(Json config) {
  config["type"] = "TransformerWrapper";
  config.erase("embedding_provider");
  config.erase("max_mem_len");
  return config;
}

std::shared_ptr<Model> make(const Json& config) {
  at::manual_seed(3);
  auto model = build_model(config);
  model->module().eval();
  return model;
}

TensorMap inputs() {
  at::manual_seed(4);
  return {{"x", at::randint(17, {2, 6})}};
}

/// Options of the page, and arguments of its forward.
struct Case {
  const char* name;
  Json options, arguments;
  bool takes_mask = false, takes_embeds = false;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"plain", Json::object(), Json::object()},
      {"emb_dim", {{"emb_dim", 12}}, Json::object(), true, true},
      {"embeddings", {{"post_emb_norm", true}}, {{"return_embeddings", true}}},
      {"both", {{"l2norm_embed", true}}, {{"return_logits_and_embeddings", true}}},
      {"maps", {{"scaled_sinu_pos_emb", true}}, {{"return_attn", true}}, true},
      {"intermediates", {{"num_memory_tokens", 3}}, {{"return_intermediates", true}}, false, true},
      {"tied", {{"tie_embedding", true}}, Json::object()},
      {"logits_dim", {{"logits_dim", 5}, {"use_abs_pos_emb", false}}, Json::object()},
      {"gradient", {{"emb_frac_gradient", 0.25}, {"emb_dropout", 0.1}}, Json::object()}};
  return all;
}

TEST(Zeta, HasTheNumbersOfTransformerWrapper) {
  for (const auto& one : cases()) {
    SCOPED_TRACE(one.name);
    const auto zeta = make(config(one.options)),
               wrapper = make(wrapper_config(config(one.options)));
    ASSERT_EQ(load_state_dict(zeta->module(), state_dict(wrapper->module())).describe(), "");
    auto given = inputs();
    const int64_t emb_dim = one.options.value("emb_dim", 16);
    if (one.takes_mask)
      given["mask"] = at::arange(6).unsqueeze(0).lt(at::tensor({6, 4}).unsqueeze(1));
    if (one.takes_embeds) {
      given["prepend_embeds"] = at::randn({2, 2, emb_dim});
      given["sum_embeds"] = at::randn({2, 6, emb_dim});
    }
    const auto got = run_model(*zeta, "forward", given, one.arguments, true),
               wanted = run_model(*wrapper, "forward", given, one.arguments, true);
    EXPECT_EQ(got.size(), wanted.size());
    for (const auto& [name, tensor] : wanted) {
      ASSERT_TRUE(got.count(name)) << name;
      EXPECT_TRUE(at::equal(got.at(name), tensor)) << name;
    }
  }
}

TEST(Zeta, KeepsTheMemoryThatIsAskedFor) {
  const auto kept = [](const Json& options) {
    const auto model = make(config(options));
    const auto result = run_model(*model, "forward", inputs(), {{"return_mems", true}}, false);
    return result.at("out.1.0").size(1);
  };
  EXPECT_EQ(kept(Json::object()), 0);  // the page: "indicating no memory tokens"
  EXPECT_EQ(kept({{"max_mem_len", 4}}), 4);
  EXPECT_EQ(kept({{"max_mem_len", 4.7}}), 4);
  EXPECT_EQ(kept({{"max_mem_len", 0.5}}), 5);   // of max_seq_len 10
  EXPECT_EQ(kept({{"max_mem_len", 0.35}}), 3);  // a part of a token is cut off
  EXPECT_EQ(kept({{"max_mem_len", 50}}), 6);
  ZetaTransformerOptions options;
  options.max_seq_len = 100;
  options.max_mem_len = 0.29;
  EXPECT_EQ(kept_memory(options), 29);  // 0.29 * 100 < 29
}

TEST(Zeta, GoesOnFromItsMemories) {
  const Json options{{"max_mem_len", 0.4}, {"shift_mem_down", 1}};
  const auto zeta = make(config(options));
  auto whole = config(options);
  whole["max_mem_len"] = 4;
  whole["type"] = "TransformerWrapper";
  const auto wrapper = make(whole);
  load_state_dict(zeta->module(), state_dict(wrapper->module()));
  TensorMap first = inputs();
  for (const auto* model : {&zeta, &wrapper}) {
    auto mems = run_model(**model, "forward", inputs(), {{"return_mems", true}}, false);
    TensorMap second = inputs();
    second["mems.0"] = mems.at("out.1.0");
    second["mems.1"] = mems.at("out.1.1");
    const auto result = run_model(**model, "forward", second, Json::object(), false).at("out");
    if (model == &zeta)
      first["x"] = result;
    else
      EXPECT_TRUE(at::equal(first["x"], result));
  }
}

const std::vector<Json>& providers() {
  static const std::vector<Json> all{{{"type", "TokenEmbedding"}},
                                     {{"type", "TokenEmbedding"}, {"l2norm_embed", true}},
                                     {{"type", "AbsolutePositionalEmbedding"}},
                                     {{"type", "ScaledSinusoidalEmbedding"}, {"theta", 100.0}}};
  return all;
}

TEST(Zeta, EmbedsByPositionWhereTheProviderDoes) {
  const auto model = make(config({{"embedding_provider", {{"type", "AbsolutePositionalEmbedding"}}},
                                  {"use_abs_pos_emb", false}}));
  const auto parameters = model->module().named_parameters();
  const auto table = parameters["token_emb.emb.weight"];
  ASSERT_EQ(table.sizes(), (std::vector<int64_t>{10, 16}));
  // As if these were the embeddings that are summed, and the tokens had none.
  auto given = inputs();
  const auto got = run_model(*model, "forward", given, Json::object(), false).at("out");
  const auto blank = make(wrapper_config(config({{"use_abs_pos_emb", false}})));
  auto weights = state_dict(model->module());
  weights["token_emb.emb.weight"] = at::zeros({17, 16});
  load_state_dict(blank->module(), weights);
  given["sum_embeds"] = (table.narrow(0, 0, 6) / std::sqrt(16.0)).unsqueeze(0).expand({2, 6, 16});
  EXPECT_TRUE(at::allclose(
      got, run_model(*blank, "forward", given, Json::object(), false).at("out"), 1e-5, 1e-6));
}

TEST(Zeta, IsTrainedWrittenAndDecodedLikeAnyNet) {
  for (const auto& provider : providers()) {
    SCOPED_TRACE(provider.dump());
    const auto model = make(
        {{"type", "AutoregressiveWrapper"}, {"net", config({{"embedding_provider", provider}})}});
    auto& wrapper = dynamic_cast<AutoregressiveWrapperImpl&>(model->module());
    auto tokens = inputs().at("x");
    wrapper.forward(tokens).loss.backward();
    for (const auto& item : wrapper.named_parameters())
      EXPECT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_TRUE(model->token_task().has_value());
    GenerateOptions options;
    options.seq_len = 4;
    options.temperature = 0;
    GenerationInputs generation;
    generation.prompts = tokens;
    generation.prompt_lens = at::tensor({3, 6});
    const auto cached = wrapper.generate(generation, options);
    generation.cache_kv = false;
    EXPECT_TRUE(at::equal(cached, wrapper.generate(generation, options)));
    generation.prompts = tokens.narrow(0, 0, 1).narrow(1, 0, 3);
    generation.prompt_lens = at::Tensor();
    EXPECT_TRUE(at::equal(cached.narrow(0, 0, 1), wrapper.generate(generation, options)));
  }
}

/// Looks at a token and at where it stands.
class ParityEmbedding : public BaseEmbedding {
 public:
  explicit ParityEmbedding(int64_t dim) {
    table_ = register_parameter("table", at::ones({4, dim}).mul_(at::arange(1, 5).unsqueeze(1)));
  }
  at::Tensor embed(const at::Tensor& tokens, const Positions& positions) override {
    const auto pos = positions.resolve(tokens.size(1), tokens.device());
    return at::embedding(table_, tokens.remainder(2) + 2 * pos.remainder(2));
  }

 private:
  at::Tensor table_;
};

TEST(Zeta, TakesAnEmbeddingOfOnesOwn) {
  register_embedding("ParityEmbedding", [](const ModuleSpec&, const EmbeddingSizes& sizes) {
    return std::make_shared<ParityEmbedding>(sizes.dim);
  });
  EXPECT_THROW(register_embedding("ParityEmbedding", nullptr), InputError);
  const auto own = config({{"embedding_provider", "ParityEmbedding"}, {"use_abs_pos_emb", false}});
  const auto model = make(own);
  EXPECT_EQ(spell_out(own), spell_out(spell_out(own)));
  const auto result = run_model(*model, "forward", inputs(), Json::object(), true);
  EXPECT_TRUE(result.count("grad.token_emb.table"));
  // Tokens of one parity are the same to it.
  auto other = inputs();
  other["x"] = (other["x"] + 2).remainder(16);
  auto first = inputs();
  first["x"] = first["x"].remainder(16);
  EXPECT_TRUE(at::equal(run_model(*model, "forward", first, Json::object(), false).at("out"),
                        run_model(*model, "forward", other, Json::object(), false).at("out")));

  ZetaTransformerOptions options;
  options.num_tokens = 17;
  options.max_seq_len = 10;
  options.attn_layers.dim = 16;
  options.attn_layers.depth = 1;
  ZetaTransformer in_cpp(options, std::make_shared<ParityEmbedding>(16));
  EXPECT_EQ(in_cpp->forward(inputs().at("x")).sizes(), (std::vector<int64_t>{2, 6, 17}));
}

TEST(Zeta, SpellsOutWhatTheModelTellsItsProvider) {
  const auto spelled = spell_out(config());
  EXPECT_EQ(spelled["embedding_provider"]["type"], "TokenEmbedding");
  EXPECT_EQ(spelled["embedding_provider"]["dim"], 16);
  EXPECT_EQ(spelled, spell_out(config({{"embedding_provider",
                                        {{"type", "TokenEmbedding"},
                                         {"dim", 16},
                                         {"num_tokens", 17},
                                         {"l2norm_embed", false}}}})));
  EXPECT_NE(spelled, spell_out(config({{"embedding_provider", "ScaledSinusoidalEmbedding"}})));
}

std::string refusal(const Json& further) {
  try {
    make(config(further));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Zeta, NamesWhatIsWrong) {
  EXPECT_THAT(refusal({{"embedding_provider", "TokenEmbeding"}}),
              AllOf(HasSubstr("embedding_provider"), HasSubstr("'TokenEmbedding'")));
  EXPECT_THAT(refusal({{"embedding_provider", {{"type", "TokenEmbedding"}, {"dim", 8}}}}),
              AllOf(HasSubstr("embedding_provider.dim"), HasSubstr("16"), HasSubstr("8")));
  EXPECT_THAT(refusal({{"embedding_provider", {{"type", "TokenEmbedding"}, {"vocab", 8}}}}),
              AllOf(HasSubstr("embedding_provider"), HasSubstr("vocab: unknown key")));
  EXPECT_THAT(refusal({{"max_mem_len", -1}}), HasSubstr("max_mem_len"));
  EXPECT_THAT(refusal({{"max_mem_len", 0.5}, {"max_seq_len", 0}}),
              AllOf(HasSubstr("max_mem_len"), HasSubstr("max_seq_len")));
  EXPECT_THAT(
      refusal({{"tie_embedding", true}, {"embedding_provider", "ScaledSinusoidalEmbedding"}}),
      HasSubstr("tie_embedding"));
  EXPECT_THAT(refusal({{"tie_embedding", true}, {"emb_dim", 12}}), HasSubstr("tie_embedding"));
  EXPECT_THAT(refusal({{"num_tokens", 0}}), HasSubstr("num_tokens"));
  EXPECT_THAT(refusal({{"recycling", true}}), HasSubstr("recycling: unknown key"));
}

}  // namespace
}  // namespace x_transformers::zeta_test
