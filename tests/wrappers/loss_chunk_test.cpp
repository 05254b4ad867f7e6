// The loss in chunks is the loss, with its gradients.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/wrappers/autoregressive.h"
#include "x_transformers/wrappers/xl_autoregressive.h"

namespace x_transformers::loss_chunk_test {
namespace {

AutoregressiveWrapper make_model(const Json& net,
                                 const AutoregressiveWrapperOptions& options = {}) {
  Json config{
      {"num_tokens", 19},
      {"max_seq_len", 12},
      {"attn_layers",
       {{"type", "Decoder"}, {"dim", 16}, {"depth", 2}, {"heads", 2}, {"attn_dim_head", 8}}}};
  config.merge_patch(net);
  at::manual_seed(7);
  return AutoregressiveWrapper(
      TransformerWrapper(options_from_json<TransformerWrapperOptions>(config, "net")), options);
}

/// Loss and gradients by name.
std::map<std::string, at::Tensor> results(AutoregressiveWrapper& model, const at::Tensor& tokens,
                                          const TransformerInputs& inputs) {
  model->zero_grad();
  const auto loss = model->forward(tokens, inputs).loss;
  loss.backward();
  std::map<std::string, at::Tensor> found{{"loss", loss.detach()}};
  for (const auto& item : model->named_parameters()) found[item.key()] = item.value().grad();
  return found;
}

void expect_same(const Json& net, const AutoregressiveWrapperOptions& options = {},
                 const TransformerInputs& inputs = {}) {
  SCOPED_TRACE(net.dump());
  auto model = make_model(net, options);
  auto tokens = at::randint(19, {3, 9});
  tokens[1][4] = -100;
  tokens[2][8] = -100;
  const auto plain = results(model, tokens, inputs);
  for (const int64_t rows : {1, 5, 24, 1000}) {
    model->set_loss_chunk(rows);
    EXPECT_FALSE(model->forward(tokens, inputs).logits.defined());
    for (const auto& [name, tensor] : results(model, tokens, inputs)) {
      const auto& wanted = plain.at(name);
      ASSERT_EQ(tensor.defined(), wanted.defined()) << name;
      if (!wanted.defined()) continue;
      EXPECT_TRUE(at::allclose(tensor, wanted, 1e-4, 1e-6)) << name << " by " << rows;
    }
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::allclose(model->forward(tokens, inputs).loss, plain.at("loss"), 1e-5, 1e-6));
  }
  model->set_loss_chunk(0);
  EXPECT_TRUE(model->forward(tokens, inputs).logits.defined());
}

TEST(LossChunk, ChangesNoLossAndNoGradient) {
  expect_same(Json::object());
  expect_same({{"tie_embedding", true}});
  expect_same({{"emb_dim", 12}, {"num_memory_tokens", 2}});
  expect_same({{"attn_layers", {{"type", "Encoder"}}}});  // keeps the last token
  AutoregressiveWrapperOptions with_z_loss;
  with_z_loss.add_attn_z_loss = true;
  expect_same({{"add_continuous_pred_head", true}}, with_z_loss);
  TransformerInputs prepended;
  prepended.prepend_embeds = at::randn({3, 2, 16});
  expect_same(Json::object(), {}, prepended);
}

TEST(LossChunk, OfSegmentsIsTheirLoss) {
  auto config = Json::parse(R"({"num_tokens": 19, "max_seq_len": 4, "max_mem_len": 4,
      "num_memory_tokens": 2, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8,
       "rotary_pos_emb": true}})");
  at::manual_seed(7);
  XLAutoregressiveWrapper model(
      TransformerWrapper(options_from_json<TransformerWrapperOptions>(config, "net")));
  auto tokens = at::randint(19, {3, 10});
  tokens[1][4] = -100;
  tokens[2].slice(0, 8).fill_(-100);
  const auto results = [&] {
    model->zero_grad();
    auto loss = model->forward(tokens);
    loss.backward();
    std::vector<at::Tensor> found = {loss.detach()};
    for (const auto& parameter : model->parameters()) {
      if (parameter.grad().defined()) found.push_back(parameter.grad().clone());
    }
    return found;
  };
  const auto plain = results();
  for (const int64_t rows : {1, 5, 1000}) {
    model->set_loss_chunk(rows);
    const auto chunked = results();
    ASSERT_EQ(chunked.size(), plain.size());
    for (size_t i = 0; i < plain.size(); ++i)
      EXPECT_TRUE(at::allclose(chunked[i], plain[i], 1e-4, 1e-6)) << i << " by " << rows;
  }
  config["mixture_of_softmax"] = true;
  XLAutoregressiveWrapper mixture(
      TransformerWrapper(options_from_json<TransformerWrapperOptions>(config, "net")));
  EXPECT_THAT([&] { mixture->set_loss_chunk(2); },
              testing::ThrowsMessage<InputError>(testing::HasSubstr("net.mixture_of_softmax")));
}

TEST(LossChunk, RefusesHeadsOfMoreThanOneProduct) {
  const std::pair<const char*, Json> heads[] = {
      {"mixture_of_softmax", true},
      {"sigsoftmax_logits", true},
      {"to_logits", {{"type", "Linear"}, {"in_features", 16}, {"out_features", 19}}}};
  for (const auto& [option, value] : heads) {
    auto model = make_model({{option, value}});
    try {
      model->set_loss_chunk(4);
      ADD_FAILURE() << option << " was taken";
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(std::string("net.") + option));
    }
    model->set_loss_chunk(0);
  }
  auto model = make_model(Json::object());
  EXPECT_THROW(model->set_loss_chunk(-1), InputError);
}

}  // namespace
}  // namespace x_transformers::loss_chunk_test
