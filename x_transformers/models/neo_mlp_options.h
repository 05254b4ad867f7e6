// Options of NeoMLP.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

struct RandomFourierEmbedOptions {
  /// features of a number (arXiv:2006.10739)
  int64_t dim = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of a number", "arXiv:2006.10739");
  }
};

struct NeoMLPOptions {
  /// numbers that come in, each a node
  int64_t dim_in = 0;
  /// hidden nodes
  int64_t dim_hidden = 0;
  /// numbers that go out, each a node
  int64_t dim_out = 0;
  /// features of a node
  int64_t dim_model = 0;
  /// layers of the encoder
  int64_t depth = 0;
  /// Of the encoder but dim and depth; empty: 4 heads of 16 features.
  std::optional<AttentionLayersOptions> encoder_kwargs = std::nullopt;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim_in", dim_in, "numbers that come in, each a node");
    v.required("dim_hidden", dim_hidden, "hidden nodes");
    v.required("dim_out", dim_out, "numbers that go out, each a node");
    v.required("dim_model", dim_model, "features of a node");
    v.required("depth", depth, "layers of the encoder");
    v.overlay("encoder_kwargs", encoder_kwargs, plain_encoder(),
              "options of the Encoder; default: {\"attn_dim_head\": 16, \"heads\": 4}",
              {"dim", "depth"});
  }

  /// An Encoder's defaults.
  static AttentionLayersOptions plain_encoder();
};

}  // namespace x_transformers
