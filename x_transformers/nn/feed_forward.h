// The feed-forward layer.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/core/cost_part.h"
#include "x_transformers/core/inputs.h"
#include "x_transformers/nn/activations.h"
#include "x_transformers/nn/block.h"
#include "x_transformers/nn/feed_forward_options.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

/// What one call of FeedForward takes.
struct FeedForwardInputs {
  at::Tensor x;           ///< [..., dim]
  at::Tensor deep_embed;  ///< [b, n, dim_out] factors of the output; undefined: none
  BranchEnds ends = {};   ///< of a stack that leaves them to the layer

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    v("deep_embed", self.deep_embed,
      {.kind = TensorKind::floating,
       .axes = {Axis::batch, or_one(Axis::tokens), Axis::dim},
       .fit = Fit::by_rule,
       .beside_cache = BesideCache::cut});
  }
};

/// dim -> dim * mult -> dim_out with an activation, gated or not, between: [b, n, dim] -> [b, n,
/// dim_out].
class FeedForwardImpl : public Block, public CostPart {
 public:
  explicit FeedForwardImpl(FeedForwardOptions options);
  at::Tensor forward(const FeedForwardInputs& inputs);
  at::Tensor forward(const at::Tensor& x) { return forward(FeedForwardInputs{x, {}, {}}); }
  BranchOutput run(const BranchInputs& inputs) override {
    BranchOutput output;
    output.out = forward({inputs.x, inputs.deep_embed, inputs.ends});
    return output;
  }
  bool takes_ends() const override { return true; }
  Text cache_unsupported() const override;
  Text documents_unsupported() const override { return cache_unsupported(); }
  OptionPath drawn_option() const override;
  const char* cost_part() const override { return "feed-forward"; }
  const FeedForwardOptions& options() const { return options_; }
  /// The weights of the linear layers.
  std::vector<at::Tensor> muon_parameters() const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor hidden(const at::Tensor& x);
  at::Tensor hidden_of(const at::Tensor& x, const std::optional<RowNorm>& norm);

  FeedForwardOptions options_ = {};
  Linear proj_in_{nullptr}, proj_out_{nullptr};
  std::shared_ptr<ActivationModule> activation_;
  at::Tensor glu_mult_bias_;
  std::shared_ptr<LayerNorm> post_act_ln_;
};
TORCH_MODULE(FeedForward);

}  // namespace x_transformers
