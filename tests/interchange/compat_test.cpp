// Whose numbers a model has (xt_compat, python_quirks) holds for the whole file: modules given as
// values and models among arguments have them too, and weights must.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include "io/test_files.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/state_dict.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// What the probes that were built have been told.
std::vector<Compat>& told() {
  static std::vector<Compat> all;
  return all;
}

/// A module that can stand anywhere: its results are its input's.
class Probe : public Model {
 public:
  torch::nn::Module& module() override { return *module_; }
  Value call(const std::string&, Arguments& arguments) override {
    return arguments.required_tensor("x");
  }

 private:
  std::shared_ptr<torch::nn::Module> module_ = std::make_shared<torch::nn::LinearImpl>(1, 1);
};

void register_probe() {
  static const bool once = [] {
    register_model_type("CompatProbe", model_type<NoOptions>([](const NoOptions&, const Json&,
                                                                const ModelPlace& place) {
                          told().push_back(place.compat);
                          return std::make_shared<Probe>();
                        }));
    return true;
  }();
  (void)once;
}

const Json kProbe = {{"type", "CompatProbe"}};

Json layers(const Json& more) {
  Json config = {{"type", "Decoder"}, {"dim", 16}, {"depth", 1}, {"heads", 2}};
  config.update(more);
  return config;
}

Json net(const Json& more) {
  Json config = {{"type", "TransformerWrapper"},
                 {"num_tokens", 7},
                 {"max_seq_len", 8},
                 {"attn_layers", layers(Json::object())}};
  config.update(more);
  return config;
}

/// A model with a probe in each place that takes a module.
std::vector<Json> models_with_probes() {
  const Json attention = {{"type", "Attention"}, {"dim", 16}, {"heads", 2}, {"dim_head", 8}};
  const auto with = [](Json config, const Json& more) {
    config.update(more);
    return config;
  };
  const Json hybrid = {{"hybrid_module", kProbe}, {"hybrid_fold_axial_dim", 1}};
  return {
      {{"type", "FeedForward"}, {"dim", 4}, {"custom_activation", kProbe}},
      {{"type", "FeedForward"},
       {"dim", 4},
       {"custom_activation",
        {{"type", "FeedForward"}, {"dim", 16}, {"custom_activation", kProbe}}}},
      {{"type", "GLU"}, {"dim_in", 4}, {"dim_out", 4}, {"activation", kProbe}},
      {{"type", "Attend"}, {"custom_attn_fn", kProbe}},
      with(attention, {{"custom_attn_fn", kProbe}}),
      with(attention, hybrid),
      layers({{"attn_custom_attn_fn", kProbe}}),
      layers({{"attn_hybrid_module", kProbe}, {"attn_hybrid_fold_axial_dim", 1}}),
      layers({{"ff_custom_activation", kProbe}}),
      layers({{"cross_attend", true}, {"cross_attn_custom_attn_fn", kProbe}}),
      {{"type", "AttentionPool"}, {"dim", 16}, {"attn_kwargs", {{"custom_attn_fn", kProbe}}}},
      net({{"token_emb", kProbe}}),
      net({{"to_logits", kProbe}}),
      net({{"attn_layers", layers({{"ff_custom_activation", kProbe}})}}),
      {{"type", "AutoregressiveWrapper"}, {"net", net({{"to_logits", kProbe}})}},
      {{"type", "XTransformer"},
       {"dim", 16},
       {"enc_num_tokens", 7},
       {"enc_max_seq_len", 8},
       {"enc_depth", 1},
       {"enc_heads", 2},
       {"enc_ff_custom_activation", kProbe},
       {"dec_num_tokens", 7},
       {"dec_max_seq_len", 8},
       {"dec_depth", 1},
       {"dec_heads", 2}},
      {{"type", "ViTransformerWrapper"},
       {"image_size", 4},
       {"patch_size", 2},
       {"attn_layers",
        {{"type", "Encoder"},
         {"dim", 16},
         {"depth", 1},
         {"heads", 2},
         {"ff_custom_activation", kProbe}}}},
      {{"type", "Scale"}, {"value", 2.0}, {"fn", kProbe}},
      {{"type", "ShiftTokens"}, {"shifts", {0, 1}}, {"fn", kProbe}},
      {{"type", "FoldAxially"}, {"axial_dim", 2}, {"fn", kProbe}},
      {{"type", "Scale"},
       {"value", 2.0},
       {"fn", {{"type", "FoldAxially"}, {"axial_dim", 2}, {"fn", kProbe}}}},
  };
}

class CompatTest : public FolderTest {
 protected:
  static void SetUpTestSuite() { register_probe(); }
  void SetUp() override {
    FolderTest::SetUp();
    told().clear();
  }
};

TEST_F(CompatTest, ReachesEveryModuleGivenAsAValue) {
  for (const auto& config : models_with_probes()) {
    for (const bool quirks : {false, true}) {
      SCOPED_TRACE(config.dump());
      told().clear();
      auto whole = config;
      whole["python_quirks"] = quirks;
      const Compat expected = {.python_quirks = quirks};
      EXPECT_EQ(build_model(whole)->compat(), expected);
      EXPECT_THAT(told(), AllOf(Not(IsEmpty()), Each(expected)));
    }
  }
}

TEST_F(CompatTest, ReachesModelsAmongTheArguments) {
  const auto attention = build_model(
      {{"type", "Attention"}, {"dim", 16}, {"heads", 2}, {"dim_head", 8}, {"python_quirks", true}});
  // The probe is no position bias; it is built all the same.
  EXPECT_THROW(run_model(*attention, "forward", {{"x", at::zeros({1, 3, 16})}},
                         {{"rel_pos", kProbe}}, false),
               InputError);
  const auto writer = build_model(
      {{"type", "AutoregressiveWrapper"}, {"net", net(Json::object())}, {"python_quirks", true}});
  const Json amateur = net({{"token_emb", kProbe}});
  EXPECT_THROW(run_model(*writer, "generate", {{"prompts", at::zeros({1, 2}, at::kLong)}},
                         {{"seq_len", 1}, {"amateur_model", amateur}}, false),
               std::exception);
  const Compat quirks = {.python_quirks = true};
  EXPECT_THAT(told(), testing::ElementsAre(quirks, quirks));
}

TEST_F(CompatTest, IsSaidOnceInAFile) {
  const auto message = message_of<InputError>([&] {
    build_model({{"type", "Scale"},
                 {"value", 2.0},
                 {"fn", {{"type", "FeedForward"}, {"dim", 4}, {"python_quirks", true}}}});
  });
  EXPECT_THAT(message, HasSubstr("python_quirks"));
}

TEST_F(CompatTest, OfAWrappedNetIsTheNets) {
  auto quirks = net(Json::object());
  quirks["python_quirks"] = true;
  EXPECT_TRUE(wrap_net(build_model(quirks))->compat().python_quirks);
}

TEST_F(CompatTest, WeightsOfAnotherReleaseAreRefused) {
  const auto path = folder_ / "weights.safetensors";
  const auto model = build_model({{"type", "FeedForward"}, {"dim", 4}});
  const auto weights = state_dict(model->module());
  save_weights(path, weights, name_of(model->compat().xt_compat));
  EXPECT_NO_THROW(load_weights(*model, path));
  save_weights(path, weights, "9.0.0");
  EXPECT_THAT(message_of<InputError>([&] { load_weights(*model, path); }),
              AllOf(HasSubstr(path.string()), HasSubstr("xt_compat"), HasSubstr("9.0.0"),
                    HasSubstr("2.16.1")));
}

}  // namespace
}  // namespace x_transformers
