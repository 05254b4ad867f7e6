// Images as sequences of patches: ViTransformerWrapper.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/vision_options.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {

/// Vision transformer with mean pooling (arXiv:2010.11929, arXiv:2205.01580).
class ViTransformerWrapperImpl : public torch::nn::Module {
 public:
  struct Output {
    at::Tensor logits;      ///< [b, num_classes]; without classes the pooled embeddings [b, dim]
    at::Tensor embeddings;  ///< [b, patches, dim]
  };

  /// Throws InputError for impossible options.
  explicit ViTransformerWrapperImpl(ViTransformerWrapperOptions options);
  /// img [b, channels, height, width], both multiples of patch_size and together at most image_size
  /// ** 2.
  Output forward(const at::Tensor& img);
  AttentionLayers& attn_layers() { return attn_layers_; }
  const ViTransformerWrapperOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  ViTransformerWrapperOptions options_;
  at::Tensor pos_embedding_, register_tokens_;
  std::shared_ptr<LayerNorm> patch_norm_, embedding_norm_, post_emb_norm_;
  Linear patch_projection_{nullptr}, mlp_head_{nullptr};
  AttentionLayers attn_layers_{nullptr};
};
TORCH_MODULE(ViTransformerWrapper);

}  // namespace x_transformers
