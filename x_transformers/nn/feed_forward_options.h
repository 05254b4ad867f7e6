// Options of the feed-forward layer.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

struct FeedForwardOptions {
  /// input features
  int64_t dim = 0;
  /// output features; default: dim
  std::optional<int64_t> dim_out = std::nullopt;
  /// hidden features as a multiple of dim
  double mult = 4.0;
  /// gated linear unit: half of the hidden projection gates the other half (arXiv:2002.05202)
  bool glu = false;
  /// learned factor for each gated feature
  bool glu_mult_bias = false;
  /// SiLU in place of GELU (arXiv:1710.05941)
  bool swish = false;
  /// squared ReLU in place of GELU (arXiv:2109.08668)
  bool relu_squared = false;
  /// softmax linear unit in place of GELU (transformer-circuits.pub/2022/solu)
  bool solu = false;
  /// activation by its torch.nn name, in place of GELU
  std::optional<ModuleSpec> custom_activation = std::nullopt;
  /// layer norm after the activation (arXiv:2110.09456)
  bool post_act_ln = false;
  /// dropout of the hidden features
  double dropout = 0.0;
  /// dropout of the output
  double sublayer_dropout = 0.0;
  /// no biases (the gated projection keeps its own)
  bool no_bias = false;
  /// start with an output of zero
  bool zero_init_output = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "input features");
    v("dim_out", dim_out, "output features; default: dim");
    v("mult", mult, "hidden features as a multiple of dim");
    v("glu", glu, "gated linear unit: half of the hidden projection gates the other half",
      "arXiv:2002.05202");
    v("glu_mult_bias", glu_mult_bias, "learned factor for each gated feature");
    v("swish", swish, "SiLU in place of GELU", "arXiv:1710.05941");
    v("relu_squared", relu_squared, "squared ReLU in place of GELU", "arXiv:2109.08668");
    v("solu", solu, "softmax linear unit in place of GELU", "transformer-circuits.pub/2022/solu");
    v("custom_activation", custom_activation, "activation by its torch.nn name, in place of GELU");
    v("post_act_ln", post_act_ln, "layer norm after the activation", "arXiv:2110.09456");
    v.free("dropout", dropout, "dropout of the hidden features");
    v.free("sublayer_dropout", sublayer_dropout, "dropout of the output");
    v("no_bias", no_bias, "no biases (the gated projection keeps its own)");
    v.free("zero_init_output", zero_init_output, "start with an output of zero");
  }
};

/// Throws InputError for impossible combinations.
void validate(const FeedForwardOptions& options);

}  // namespace x_transformers
