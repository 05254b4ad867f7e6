// Options of the residual connections, in Python's names and defaults.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/options.h"

namespace x_transformers {

struct ResidualOptions {
  /// features
  int64_t dim = 0;
  /// a learned factor of the residual for each feature
  bool scale_residual = false;
  /// a constant factor of the residual
  double scale_residual_constant = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v("scale_residual", scale_residual, "a learned factor of the residual for each feature");
    v("scale_residual_constant", scale_residual_constant, "a constant factor of the residual");
  }
};

struct GRUGatingOptions {
  /// features
  int64_t dim = 0;
  /// a learned factor of the residual for each feature
  bool scale_residual = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v("scale_residual", scale_residual, "a learned factor of the residual for each feature");
  }
};

struct HyperConnectionOptions {
  /// features
  int64_t dim = 0;
  /// the stream that the branch reads at the start, modulo their number
  int64_t layer_index = 0;
  /// residual streams (arXiv:2409.19606)
  int64_t num_residual_streams = 0;
  /// how many mixes of the streams the branch gets
  int64_t num_input_views = 1;
  /// no effect, as in Python (arXiv:2512.24880)
  int64_t sinkhorn_iters = 5;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v("layer_index", layer_index,
      "the stream that the branch reads at the start, modulo their number");
    v.required("num_residual_streams", num_residual_streams, "residual streams",
               "arXiv:2409.19606");
    v("num_input_views", num_input_views, "how many mixes of the streams the branch gets");
    // Python normalises a matrix of one row, so that every weight is 1 after any number of
    // iterations.
    v("sinkhorn_iters", sinkhorn_iters, "no effect, as in Python", "arXiv:2512.24880");
  }
};

struct DynamicLIMeOptions {
  /// features
  int64_t dim = 0;
  /// earlier layers (arXiv:2502.09245)
  int64_t num_layers = 0;
  /// mixes that are made
  int64_t num_views = 1;
  /// an RMSNorm before the weights are computed
  bool norm = true;
  /// weights by softmax over the layers; else by ReLU
  bool use_softmax = true;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v.required("num_layers", num_layers, "earlier layers", "arXiv:2502.09245");
    v("num_views", num_views, "mixes that are made");
    v("norm", norm, "an RMSNorm before the weights are computed");
    v("use_softmax", use_softmax, "weights by softmax over the layers; else by ReLU");
  }
};

}  // namespace x_transformers
