#include "x_transformers/models/quantized.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/nn/block.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {
namespace {

/// Fewer weights are as fast as they are.
constexpr int64_t kMinWeights = int64_t{1} << 12;

int64_t bytes_of(const torch::nn::Module& model) {
  int64_t bytes = 0;
  for (const auto& parameter : model.parameters())
    bytes += static_cast<int64_t>(parameter.nbytes());
  return bytes;
}

}  // namespace

QuantizedModel quantize_model(torch::nn::Module& model, Quantization quantization) {
  QuantizedModel result;
  result.bytes_before = bytes_of(model);
  for (auto& parameter : model.parameters()) parameter.set_requires_grad(false);
  const auto quantize = [&](torch::nn::Module& part) {
    auto* layer = dynamic_cast<LinearImpl*>(&part);
    if (layer == nullptr || !can_quantize(layer->weight) || layer->weight.numel() < kMinWeights)
      return;
    result.weights += layer->weight.numel();
    layer->weight.set_data(quantized_weight(layer->weight, quantization));
    result.quantized_bytes += static_cast<int64_t>(layer->weight.nbytes());
  };
  model.apply([&](torch::nn::Module& part) {
    if (auto* block = dynamic_cast<Block*>(&part)) block->apply(quantize);
    if (const auto* net = dynamic_cast<const TokenModel*>(&part)) {
      for (const auto& layer : net->output_layers()) quantize(*layer);
    }
  });
  require(result.weights > 0, at("quantize"),
          "found no linear layer of {} weights or more whose inputs divide by {}", kMinWeights,
          kernels::QuantizedRow::kGroup);
  result.other_bytes = bytes_of(model) - result.quantized_bytes;
  return result;
}

}  // namespace x_transformers
