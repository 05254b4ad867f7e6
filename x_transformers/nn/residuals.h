// How a branch's output joins the residual stream.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "x_transformers/nn/residual_options.h"
#include "x_transformers/ops/hyper_connection.h"
#include "x_transformers/ops/layer_mix.h"

namespace x_transformers {

/// The two ends of a residual connection: what the branch gets, and how its output comes back.
class ResidualBase : public torch::nn::Module {
 public:
  struct Prepared {
    at::Tensor branch_input;  ///< [b, n, dim], or [views, b, n, dim]
    at::Tensor residual;      ///< what forward gets back
    at::Tensor beta;          ///< weights of the output for each stream, where there are streams
  };
  virtual Prepared prepare(const at::Tensor& residual) { return {residual, residual, {}}; }
  virtual at::Tensor forward(const at::Tensor& out, const Prepared& prepared) = 0;
  /// Whether forward is out + residual and nothing else.
  virtual bool only_adds() const { return false; }
};

/// out + residual, the residual scaled by a constant and by a learned factor for each feature.
class Residual : public ResidualBase {
 public:
  explicit Residual(const ResidualOptions& options);
  at::Tensor forward(const at::Tensor& out, const Prepared& prepared) override;
  bool only_adds() const override { return !residual_scale_.defined() && constant_ == 1.0; }

 private:
  at::Tensor residual_scale_;
  double constant_;
};

/// A GRU cell decides what of the output enters the residual (arXiv:1910.06764).
class GRUGating : public ResidualBase {
 public:
  explicit GRUGating(const GRUGatingOptions& options);
  at::Tensor forward(const at::Tensor& out, const Prepared& prepared) override;

 private:
  at::Tensor residual_scale_, weight_ih_, weight_hh_, bias_ih_, bias_hh_;
};

/// Several residual streams, mixed by weights that depend on the token (arXiv:2409.19606,
/// arXiv:2512.24880). Streams are folded into the batch: [b * streams, n, dim].
class HyperConnection : public ResidualBase {
 public:
  explicit HyperConnection(const HyperConnectionOptions& options);
  Prepared prepare(const at::Tensor& residuals) override;
  at::Tensor forward(const at::Tensor& out, const Prepared& prepared) override;

 private:
  int64_t views_;
  HyperConnectionWeights weights_;
};

/// A layer's input as a mix of all earlier layers' outputs, weighted by the token (LIMe,
/// arXiv:2502.09245).
class DynamicLIMe : public torch::nn::Module {
 public:
  explicit DynamicLIMe(const DynamicLIMeOptions& options);
  /// x [b, n, dim], hiddens: num_layers tensors like x -> [b, n, dim], or [num_views, b, n, dim]
  /// for several views. Throws InputError for another number of hiddens.
  at::Tensor forward(const at::Tensor& x, const std::vector<at::Tensor>& hiddens);
  /// The same, with the hiddens to give to the next layer's (mix_layers).
  MixedLayers mix(const at::Tensor& x, const std::vector<at::Tensor>& hiddens);

 private:
  DynamicLIMeOptions options_;
  std::shared_ptr<class RootMeanSquareNorm> norm_;  // empty without norm
  at::Tensor weight_, bias_;
};

}  // namespace x_transformers
