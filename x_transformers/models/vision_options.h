// Options of ViTransformerWrapper.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

struct ViTransformerWrapperOptions {
  /// height and width of the images, in pixels
  int64_t image_size = 0;
  /// height and width of a patch, in pixels
  int64_t patch_size = 0;
  /// the stack: Encoder
  AttentionLayersOptions attn_layers = {};
  /// channels of the images
  int64_t channels = 3;
  /// classes to predict; default: the output is embeddings
  std::optional<int64_t> num_classes = std::nullopt;
  /// layer norm of the embeddings
  bool post_emb_norm = false;
  /// learned tokens after the patches (arXiv:2309.16588)
  int64_t num_register_tokens = 0;
  /// dropout of the embeddings
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
    v.free("emb_dropout", emb_dropout, "dropout of the embeddings");
  }
};

}  // namespace x_transformers
