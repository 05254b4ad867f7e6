// Images as sequences of patches: ViTransformerWrapper.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {

struct ViTransformerWrapperOptions {
  int64_t image_size = 0;
  int64_t patch_size = 0;
  AttentionLayersOptions attn_layers = {};
  int64_t channels = 3;
  std::optional<int64_t> num_classes = std::nullopt;
  bool post_emb_norm = false;
  int64_t num_register_tokens = 0;
  double emb_dropout = 0.0;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("image_size", image_size, "height and width of the images, in pixels");
    v.required("patch_size", patch_size, "height and width of a patch, in pixels");
    v.required("attn_layers", attn_layers, "the stack: Encoder");
    v.size("channels", channels, "channels of the images");
    v.size("num_classes", num_classes, "classes to predict; default: the output is embeddings");
    v("post_emb_norm", post_emb_norm, "layer norm of the embeddings");
    v("num_register_tokens", num_register_tokens, "learned tokens after the patches",
      "arXiv:2309.16588");
    v("emb_dropout", emb_dropout, "dropout of the embeddings");
  }
};

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

 private:
  ViTransformerWrapperOptions options_;
  at::Tensor pos_embedding_, register_tokens_;
  std::shared_ptr<LayerNorm> patch_norm_, embedding_norm_, post_emb_norm_;
  Linear patch_projection_{nullptr}, mlp_head_{nullptr};
  AttentionLayers attn_layers_{nullptr};
};
TORCH_MODULE(ViTransformerWrapper);

}  // namespace x_transformers
