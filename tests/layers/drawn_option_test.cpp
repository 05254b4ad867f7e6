// The options by which layers draw random numbers in training.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/layers/attention_layers.h"

namespace x_transformers {
namespace {

struct Case {
  std::string options;  ///< of a Decoder
  std::string drawn;    ///< the option that is named; empty: nothing is drawn
};

AttentionLayers make(const std::string& options) {
  auto config = Json::parse(options);
  config.update({{"type", "Decoder"}, {"dim", 8}, {"depth", 1}, {"heads", 2}});
  return AttentionLayers(options_from_json<AttentionLayersOptions>(config, "config"));
}

/// Whether two passes in training differ.
bool differs(AttentionLayers& layers) {
  at::manual_seed(1);
  AttentionLayersInputs inputs;
  inputs.x = at::randn({2, 12, 8});
  const auto first = layers->forward(inputs).out;
  return !first.equal(layers->forward(inputs).out);
}

std::string reason(const AttentionLayers& layers) {
  return Notice{{}, layers->capture_unsupported()}.line();
}

TEST(DrawnOption, IsNamedWhereAndOnlyWhereNumbersAreDrawn) {
  const std::vector<Case> cases = {
      {R"({})", ""},
      {R"({"attn_dropout": 0.5})", "attn_dropout"},
      {R"({"attn_gumbel_softmax": true})", "attn_gumbel_softmax"},
      {R"({"attn_sublayer_dropout": 0.5})", "attn_sublayer_dropout"},
      {R"({"attn_custom_attn_fn": {"type": "Dropout"}})", "attn_custom_attn_fn"},
      {R"({"attn_custom_attn_fn": {"type": "Softmax", "dim": -1}})", ""},
      {R"({"attn_hybrid_module": {"type": "LSTM", "input_size": 8, "hidden_size": 128,
           "num_layers": 2, "batch_first": true, "dropout": 0.5}, "attn_hybrid_fold_axial_dim": 1})",
       "attn_hybrid_module"},
      {R"({"attn_hybrid_module": {"type": "LSTM", "input_size": 8, "hidden_size": 128,
           "num_layers": 2, "batch_first": true}, "attn_hybrid_fold_axial_dim": 1})",
       ""},
      {R"({"ff_dropout": 0.5})", "ff_dropout"},
      {R"({"ff_sublayer_dropout": 0.5})", "ff_sublayer_dropout"},
      {R"({"ff_custom_activation": {"type": "RReLU"}})", "ff_custom_activation"},
      {R"({"ff_custom_activation": {"type": "AlphaDropout"}})", "ff_custom_activation"},
      {R"({"ff_custom_activation": {"type": "FeedForward", "dim": 32, "dropout": 0.5}})",
       "ff_custom_activation"},
      {R"({"ff_custom_activation": {"type": "Tanh"}})", ""}};
  for (const auto& [options, drawn] : cases) {
    auto layers = make(options);
    EXPECT_EQ(differs(layers), !drawn.empty()) << options;
    EXPECT_EQ(reason(layers), "") << options;
    layers->set_recomputed_blocks(1);
    const auto said = reason(layers);
    EXPECT_EQ(said.substr(0, said.find(':')), drawn) << options;
  }
}

}  // namespace
}  // namespace x_transformers
