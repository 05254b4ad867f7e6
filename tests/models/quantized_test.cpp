// Quantized models: what they write is what the same weights, made whole again, write.
#include "x_transformers/models/quantized.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/transformer_session.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kPrompt = 20, kSteps = 12;

TransformerWrapper make_net(const std::string& net, const std::string& layers) {
  auto config = Json::parse(R"({"num_tokens": 100, "max_seq_len": 64, "attn_layers":
      {"type": "Decoder", "dim": 64, "depth": 2, "heads": 4, "attn_dim_head": 16}})");
  config.update(Json::parse(net));
  config["attn_layers"].update(Json::parse(layers));
  at::manual_seed(5);
  TransformerWrapper made(options_from_json<TransformerWrapperOptions>(config, "net"));
  made->eval();
  return made;
}

/// Makes the weights whole again.
void dequantize(torch::nn::Module& module) {
  module.apply([](torch::nn::Module& part) {
    auto* layer = dynamic_cast<LinearImpl*>(&part);
    if (layer == nullptr || !is_quantized(layer->weight)) return;
    layer->weight.set_data(dequantized(layer->weight, layer->options.in_features(), at::kFloat));
  });
}

at::Tensor logits(TransformerWrapper& net, const at::Tensor& tokens) {
  const at::NoGradGuard no_grad;
  TransformerInputs inputs;
  inputs.x = tokens;
  return net->forward(inputs).logits.front();
}

/// After the prompt and after each further token.
at::Tensor decoded(const TransformerWrapper& net, const at::Tensor& tokens, bool static_caches) {
  const at::NoGradGuard no_grad;
  SessionOptions options;
  options.static_caches = static_caches;
  TransformerSession session(net.ptr(), options);
  std::vector<at::Tensor> all = {session.append(tokens.narrow(1, 0, kPrompt))};
  for (int64_t step = 0; step < kSteps; ++step)
    all.push_back(session.append(tokens.narrow(1, kPrompt + step, 1)));
  return at::stack(all, 1);
}

struct QuantizedVariant {
  const char *net, *layers;
};
const QuantizedVariant kQuantizedVariants[] = {
    {"{}", "{}"},
    {"{}", R"({"attn_kv_heads": 2, "ff_glu": true, "ff_swish": true, "use_rmsnorm": true,
              "rotary_pos_emb": true, "ff_no_bias": true})"},
    {R"({"tie_embedding": true})", R"({"attn_gate_values": true, "attn_on_attn": true})"},
    {R"({"num_output_heads": 2})", R"({"attn_dim_latent_kv": 32})"},
};

TEST(Quantized, ModelsComputeWhatTheirWeightsMean) {
  at::manual_seed(6);
  const auto tokens = at::randint(100, {2, kPrompt + kSteps}, at::kLong);
  for (const auto& variant : kQuantizedVariants) {
    for (const auto quantization : {Quantization::int8, Quantization::int4}) {
      SCOPED_TRACE(std::string(variant.net) + variant.layers + name_of(quantization));
      auto net = make_net(variant.net, variant.layers);
      const auto before = logits(net, tokens);
      const auto result = quantize_model(*net, quantization);
      EXPECT_GT(result.weights, 50'000);
      EXPECT_LT(result.quantized_bytes * 3, result.weights * 4);
      EXPECT_LT(result.quantized_bytes + result.other_bytes, result.bytes_before);
      const auto whole = logits(net, tokens), steps = decoded(net, tokens, false);
      const auto change = (whole - before).square().mean().sqrt() / before.std();
      EXPECT_LT(change.item<double>(), quantization == Quantization::int8 ? 0.02 : 0.3);
      EXPECT_GT(change.item<double>(), 1e-6);  // it is quantized
      dequantize(*net);
      expect_close(whole, logits(net, tokens), 1e-4);
      expect_close(steps, decoded(net, tokens, false), 1e-4);
      expect_close(steps, whole.narrow(1, kPrompt - 1, kSteps + 1), 1e-4);
    }
  }
}

TEST(Quantized, LeavesTheTableOfEmbeddingsAndItsLogits) {
  auto net = make_net(R"({"tie_embedding": true})", "{}");
  quantize_model(*net, Quantization::int8);
  for (const auto& item : net->named_parameters()) {
    const bool is_of_blocks =
        item.key().find("to_") != std::string::npos || item.key().find("ff.") != std::string::npos;
    EXPECT_TRUE(is_of_blocks || item.value().is_floating_point()) << item.key();
  }
}

TEST(Quantized, NothingToQuantizeIsRefused) {
  auto net = make_net("{}", R"({"dim": 20, "heads": 1, "attn_dim_head": 20, "ff_mult": 1})");
  EXPECT_THAT([&] { quantize_model(*net, Quantization::int8); },
              ThrowsMessage<InputError>(HasSubstr("quantize")));
}

class QuantizedOnCuda : public OnOurCudaKernels {};

TEST_F(QuantizedOnCuda, ModelsComputeWhatTheirWeightsMean) {
  const at::Device gpu(at::kCUDA, 0);
  at::manual_seed(6);
  const auto tokens = at::randint(100, {2, kPrompt + kSteps}, at::kLong).to(gpu);
  for (const auto& variant : kQuantizedVariants) {
    for (const auto quantization : {Quantization::int8, Quantization::int4}) {
      SCOPED_TRACE(std::string(variant.net) + variant.layers + name_of(quantization));
      auto net = make_net(variant.net, variant.layers);
      quantize_model(*net, quantization);
      net->to(gpu);
      for (auto& parameter : net->parameters()) {
        if (parameter.is_floating_point()) parameter.set_data(parameter.to(at::kBFloat16));
      }
      const auto wide = [](const at::Tensor& t) { return t.to(at::kCPU).to(at::kDouble); };
      const auto got = wide(decoded(net, tokens, true)), whole = wide(logits(net, tokens));
      dequantize(*net);
      for (auto& parameter : net->parameters()) parameter.set_data(parameter.to(at::kFloat));
      const auto exact = wide(logits(net, tokens)).narrow(1, kPrompt - 1, kSteps + 1);
      expect_as_near({got}, {whole.narrow(1, kPrompt - 1, kSteps + 1)}, {exact}, at::kBFloat16);
    }
  }
}

}  // namespace
}  // namespace x_transformers
