// muon_parameters and attn_qk_clip_ of x-transformers (make_muon_golden.py), and QK-clip where
// Python fails.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/layers/qk_clip.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/muon_parameters.h"

namespace x_transformers::muon_test {
namespace {

uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352dU;
  x = (x ^ (x >> 15)) * 0x846ca68bU;
  return x ^ (x >> 16);
}

/// The numbers of make_muon_golden.py.
at::Tensor numbers(at::IntArrayRef shape, size_t seed) {
  at::Tensor values = at::empty(shape, at::kDouble);
  auto* value = values.mutable_data_ptr<double>();
  const auto start = mixed(static_cast<uint32_t>(seed) + 1);
  for (int64_t i = 0; i < values.numel(); ++i)
    value[i] = static_cast<double>(mixed(start + static_cast<uint32_t>(i))) / 2147483648.0 - 1.0;
  return values.to(at::kFloat);
}

struct Net {
  std::shared_ptr<Model> model;
  std::shared_ptr<TransformerWrapperImpl> wrapper;
  std::map<std::string, at::Tensor> parameters;
};

Net make_net(const Json& attn_layers) {
  Net net;
  net.model = build_model({{"type", "TransformerWrapper"},
                           {"num_tokens", 11},
                           {"max_seq_len", 6},
                           {"attn_layers", attn_layers}},
                          "config");
  net.wrapper = std::dynamic_pointer_cast<TransformerWrapperImpl>(net.model->token_model());
  net.wrapper->eval();
  for (const auto& item : net.wrapper->named_parameters())
    net.parameters[item.key()] = item.value();
  const at::NoGradGuard no_grad;
  size_t place = 0;
  for (auto& [name, parameter] : net.parameters)
    parameter.copy_(numbers(parameter.sizes(), place++));
  return net;
}

TransformerInputs make_inputs(bool has_context) {
  TransformerInputs inputs;
  inputs.x = at::arange(12).reshape({2, 6}).remainder(11);
  if (has_context) inputs.layers.context = numbers({2, 4, 8}, 1000);
  inputs.keep_maps = true;
  return inputs;
}

TEST(MuonGolden, NamesAndClippedWeightsAreThoseOfPython) {
  const auto golden = read_json_file(std::string(XT_TEST_DATA) + "/muon.json");
  ASSERT_EQ(golden.size(), 7U);
  for (const auto& [name, entry] : golden.items()) {
    const auto net = make_net(entry.at("attn_layers"));
    std::map<const void*, std::string> names;
    for (const auto& [path, parameter] : net.parameters)
      names[parameter.unsafeGetTensorImpl()] = path;
    std::vector<std::string> found;
    for (const auto& parameter : muon_parameters(*net.wrapper))
      found.push_back(names.at(parameter.unsafeGetTensorImpl()));
    EXPECT_EQ(found, entry.at("muon").get<std::vector<std::string>>()) << name;

    const auto output =
        net.wrapper->forward(make_inputs(entry["attn_layers"].contains("cross_attend")));
    attn_qk_clip_(*net.wrapper->attn_layers(), output.layers, entry.at("tau").get<double>());
    for (const auto& [path, values] : entry.at("clipped").items()) {
      const auto& weight = net.parameters.at(path);
      const auto wanted = at::tensor(values.get<std::vector<double>>(), at::kDouble);
      const auto error = (weight.flatten().to(at::kDouble) - wanted).abs().max().item<double>();
      EXPECT_LT(error, 1e-6) << name << " " << path;
    }
  }
}

at::Tensor maxes_of(const Net& net) {
  const auto output = net.wrapper->forward(make_inputs(false));
  return output.layers.attention.at(0).maps.pre_softmax_attn.amax({0, 2, 3});
}

/// The largest scores of heads above tau become tau, those of others stay.
void expect_clipped_to(double tau, const Json& further) {
  Json layers{{"type", "Decoder"}, {"dim", 8},           {"depth", 1},
              {"heads", 4},        {"attn_dim_head", 4}, {"rotary_pos_emb", false}};
  layers.update(further);
  const auto net = make_net(layers);
  const auto before = maxes_of(net);
  ASSERT_GT(before.max().item<double>(), tau);
  ASSERT_LT(before.min().item<double>(), tau);
  const auto output = net.wrapper->forward(make_inputs(false));
  attn_qk_clip_(*net.wrapper->attn_layers(), output.layers, tau);
  EXPECT_TRUE(at::allclose(maxes_of(net), before.clamp_max(tau), 1e-4, 1e-5))
      << further << maxes_of(net) << before;
}

TEST(QkClip, BringsTheLargestScoreOfEachHeadToTau) {
  const auto before = maxes_of(make_net(
      {{"type", "Decoder"}, {"dim", 8}, {"depth", 1}, {"heads", 4}, {"attn_dim_head", 4}}));
  expect_clipped_to(before.median().item<double>() + 1e-4, Json::object());
}

TEST(QkClip, HoldsForGroupedHeads) {
  const Json grouped{{"attn_kv_heads", 2}};
  Json layers{{"type", "Decoder"}, {"dim", 8}, {"depth", 1}, {"heads", 4}, {"attn_dim_head", 4}};
  layers.update(grouped);
  expect_clipped_to(maxes_of(make_net(layers)).median().item<double>() + 1e-4, grouped);
}

TEST(QkClip, HoldsForLatentKeys) {
  const Json latent{{"attn_use_latent_kv", true},
                    {"attn_dim_latent_kv", 6},
                    {"attn_latent_rope_subheads", 2},
                    {"rotary_pos_emb", true},
                    {"rotary_emb_dim", 4}};
  Json layers{{"type", "Decoder"}, {"dim", 8}, {"depth", 1}, {"heads", 4}, {"attn_dim_head", 4}};
  layers.update(latent);
  expect_clipped_to(maxes_of(make_net(layers)).median().item<double>() + 1e-4, latent);
}

AttentionOptions small_attention() {
  AttentionOptions options;
  options.dim = 8;
  options.heads = 2;
  options.dim_head = 4;
  return options;
}

/// In Python scores that are all below 0 make the weights NaN.
TEST(QkClip, LeavesHeadsWithoutPositiveScores) {
  const auto options = small_attention();
  Attention attention(options);
  const auto before = attention->named_parameters()["to_q.weight"].detach().clone();
  attention->qk_clip_(at::full({1, 2, 3, 3}, -5.0), 1.0);
  EXPECT_TRUE(at::equal(attention->named_parameters()["to_q.weight"], before));
  attention->qk_clip_(at::full({1, 2, 3, 3}, NAN), 1.0);
  EXPECT_TRUE(at::equal(attention->named_parameters()["to_q.weight"], before));
}

TEST(QkClip, RefusesWhatItCannotClip) {
  const auto options = small_attention();
  Attention attention(options);
  EXPECT_THROW(attention->qk_clip_(at::zeros({1, 3, 3, 3})), InputError);
  EXPECT_THROW(attention->qk_clip_(at::Tensor()), InputError);
  EXPECT_THROW(attention->qk_clip_(at::zeros({1, 2, 3, 3}), -1.0), InputError);
  auto normed = options;
  normed.qk_norm = true;
  EXPECT_THROW(Attention(normed)->qk_clip_(at::zeros({1, 2, 3, 3})), InputError);
  const auto net = make_net({{"type", "Decoder"}, {"dim", 8}, {"depth", 1}, {"heads", 4}});
  auto inputs = make_inputs(false);
  inputs.keep_maps = false;
  EXPECT_THROW(attn_qk_clip_(*net.wrapper->attn_layers(), net.wrapper->forward(inputs).layers),
               InputError);
}

}  // namespace
}  // namespace x_transformers::muon_test
