// Options of the feed-forward layer.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

struct FeedForwardOptions {
  int64_t dim = 0;
  std::optional<int64_t> dim_out = std::nullopt;
  double mult = 4.0;
  bool glu = false;
  bool glu_mult_bias = false;
  bool swish = false;
  bool relu_squared = false;
  bool solu = false;
  std::optional<ModuleSpec> custom_activation = std::nullopt;
  bool post_act_ln = false;
  double dropout = 0.0;
  double sublayer_dropout = 0.0;
  bool no_bias = false;
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
    v("dropout", dropout, "dropout of the hidden features");
    v("sublayer_dropout", sublayer_dropout, "dropout of the output");
    v("no_bias", no_bias, "no biases (the gated projection keeps its own)");
    v("zero_init_output", zero_init_output, "start with an output of zero");
  }
};

/// Throws InputError for impossible combinations.
void validate(const FeedForwardOptions& options);

}  // namespace x_transformers
