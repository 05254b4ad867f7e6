// A multilayer perceptron whose neurons attend to each other: NeoMLP.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "x_transformers/core/parts.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/neo_mlp_options.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

/// Cosines of a number at random frequencies and phases, which are not trained (random Fourier
/// features, arXiv:2006.10739).
class RandomFourierEmbedImpl : public torch::nn::Module {
 public:
  explicit RandomFourierEmbedImpl(const RandomFourierEmbedOptions& options);
  /// times [...] -> [..., dim]
  at::Tensor forward(const at::Tensor& times);

 private:
  Linear proj_{nullptr};
};
TORCH_MODULE(RandomFourierEmbed);

/// An MLP as a complete graph of input, hidden and output nodes, which exchange messages by
/// self-attention (NeoMLP, openreview A8Vuf2e8y6).
class NeoMLPImpl : public torch::nn::Module, public PartOwner {
 public:
  struct Output {
    at::Tensor out;                    ///< [b, dim_out], or [dim_out] for an x without batch
    at::Tensor input, hidden, output;  ///< the nodes after the encoder, [b, nodes, dim_model]
  };

  /// Throws InputError for impossible options.
  explicit NeoMLPImpl(NeoMLPOptions options);
  /// x [b, dim_in] or [dim_in]
  Output forward(const at::Tensor& x);
  const NeoMLPOptions& options() const { return options_; }
  Spelling part_spelling(const torch::nn::Module& part) const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  NeoMLPOptions options_;
  at::Tensor input_embed_, hidden_embed_, output_embed_, to_output_weights_, to_output_bias_;
  RandomFourierEmbed fourier_{nullptr};
  Linear fourier_projection_{nullptr};
  AttentionLayers transformer_{nullptr};
};
TORCH_MODULE(NeoMLP);

}  // namespace x_transformers
