#include "x_transformers/core/capture_check.h"

#include <gtest/gtest.h>

#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {
namespace {

TransformerWrapperOptions small() {
  TransformerWrapperOptions options;
  options.num_tokens = 11;
  options.max_seq_len = 8;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 8;
  options.attn_layers.depth = 2;
  options.attn_layers.heads = 2;
  return options;
}

std::string refusal(const TransformerWrapperOptions& options) {
  TransformerWrapper net(options);
  return Notice{{}, capture_unsupported(*net)}.line();
}

TEST(CaptureRefusal, RandomNumbersOfTheDeviceAreNoReason) {
  auto options = small();
  EXPECT_EQ(refusal(options), "");
  options.emb_dropout = 0.1;
  options.attn_layers.attn.dropout = options.attn_layers.ff.dropout = 0.1;
  options.attn_layers.attn.gumbel_softmax = true;
  EXPECT_EQ(refusal(options), "");
}

TEST(CaptureRefusal, NamesWhatTheHostDraws) {
  auto options = small();
  options.attn_layers.layer_dropout = std::vector<double>{0.0, 0.5, 0.0, 0.0};
  EXPECT_TRUE(refusal(options).starts_with("attn_layers.layer_dropout: ")) << refusal(options);
  options = small();
  options.recycling = true;
  EXPECT_TRUE(refusal(options).starts_with("recycling: ")) << refusal(options);
}

TEST(CaptureRefusal, LooksIntoTheModulesOfAnyModule) {
  auto options = small();
  options.recycling = true;
  torch::nn::Module outer;
  outer.register_module("net", TransformerWrapper(options));
  const auto reason = Notice{{}, capture_unsupported(outer)}.line();
  EXPECT_TRUE(reason.starts_with("net.recycling: ")) << reason;
}

}  // namespace
}  // namespace x_transformers
