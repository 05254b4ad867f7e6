// Parameters that several processes share out, and have together only while a layer uses them.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "x_transformers/core/tensor_keeper.h"
#include "x_transformers/core/world_place.h"
#include "x_transformers/nn/layer_visits.h"
#include "x_transformers/optim/ema.h"
#include "x_transformers/optim/sharded.h"

namespace x_transformers {

/// Each rank keeps the parameters of its share (ZeRO, stage 3, arXiv:1910.02054). Those of a layer
/// are brought together when a stack comes to it, and again in the backward pass, and given up when
/// it goes on; those of no layer, such as embeddings and heads, are there during a whole step.
/// Gradients are summed up layer by layer, and their owners alone keep them.
///
/// All ranks make the same sums in the same order, since they come to the same layers. A backward
/// pass goes over the layers of the forward pass in reverse, also those that it needs no gradients
/// of on some rank. Throws RunError where ranks come to different layers, and where the model does
/// something with its parameters that this cannot follow.
class ParameterShards : public LayerVisitor, public TensorKeeper {
 public:
  /// `optimizer` shares out state and weights of the parameters of `model`, which are all there
  /// still: those of other ranks are given up. With `start` the next layer's parameters come while
  /// one runs. Without `give` they come by sums. `model` and `optimizer` must outlive this.
  ParameterShards(torch::nn::Module& model, const ShardedOptimizer& optimizer,
                  const WorldPlace& place, SumOverRanks sum, StartSumOverRanks start = {},
                  StartGivingToRanks give = {});
  ~ParameterShards() override;
  ParameterShards(const ParameterShards&) = delete;
  ParameterShards& operator=(const ParameterShards&) = delete;

  /// Before the micro-batches of a step.
  void begin_step();
  /// Before each forward pass, which every rank makes. Where there will be a backward pass, this
  /// must be the KeepingBy of the forward pass.
  void begin_forward();
  /// The backward pass from `loss`, which is undefined on a rank that has no part in this.
  void backward(const at::Tensor& loss);
  /// After all passes of a step: waits for the sums, and sums up `further` with them.
  void finish(const std::vector<at::Tensor>& further);
  /// One for each parameter of this rank's share, in the type of the weights, 0 where no pass of
  /// any rank has reached it; undefined for those of others.
  const std::vector<at::Tensor>& gradients() const { return gradients_; }
  /// Gives up all that is not of this rank's share.
  void release();

  /// On a device nobody waits in a step to see whether ranks came to the same layers: this looks
  /// whether they always did, and throws RunError where not. On the CPU each step has looked.
  void require_same_layers();

  /// Where a whole model is wanted.
  enum class On { first_rank, every_rank };
  /// Brings all parameters together there, until `release`. Every rank calls it.
  void gather_whole(On where);
  /// The weights that are trained, on the CPU of rank 0; empty elsewhere. Every rank calls it.
  std::vector<at::Tensor> whole_weights() const;
  /// The same of what `ema` has of this rank's share.
  std::map<std::string, at::Tensor> whole_state(const Ema& ema) const;

  void come_to(const VisitedStack& stack, const std::vector<int64_t>& layers) override;
  std::unique_ptr<torch::autograd::SavedVariableHooks> placeholder() override;
  void bring_back(const at::Tensor& tensor) override;

 private:
  /// Numbers of layers that run together.
  using Visit = std::vector<size_t>;
  enum class Phase { idle, forward, backward, whole };
  /// Parameters on their way.
  struct Gathering;
  /// Gradients on their way to their owners.
  struct Summing {
    std::vector<size_t> parameters;
    std::vector<at::Tensor> sums;
    StartedSum end;
  };

  bool is_own(size_t parameter) const { return optimizer_.keeps(parameter); }
  at::Tensor parameter(size_t i) const { return optimizer_.parameters().tensors[i]; }
  /// The parameters of these layers that are not here.
  std::vector<size_t> missing(const Visit& visit) const;
  std::unique_ptr<Gathering> start_gathering(const std::vector<size_t>& parameters);
  void end_gathering();
  /// Makes the layers of `visit` be here, and begins with those of `next`, where there is one.
  void go_to(const Visit& visit, const Visit* next);
  void forget_layers_but(const Visit& visit);
  void bring_layer(size_t layer);
  /// To the visit before, in a backward pass.
  void step_back();
  bool comes_again(size_t layer) const;
  void start_summing(const std::vector<size_t>& parameters);
  void end_summing();
  void give_up(const std::vector<size_t>& parameters);

  ModelLayers layers_;
  const ShardedOptimizer& optimizer_;
  WorldPlace place_;
  SumOverRanks sum_;
  StartSumOverRanks start_;
  StartGivingToRanks give_;
  bool overlaps_;
  std::vector<std::vector<size_t>> of_layer_;  ///< parameters by layer
  std::vector<size_t> outside_;                ///< parameters of no layer
  std::map<const void*, size_t> layer_of_memory_;
  std::vector<bool> is_here_;  ///< by layer
  bool is_outside_here_ = false;
  Phase phase_ = Phase::idle;
  std::vector<Visit> visits_, visits_before_;  ///< of this forward pass, and of the one before it
  size_t visit_ = 0;                           ///< the one that a backward pass is at
  std::unique_ptr<Gathering> gathering_;       ///< what is begun
  at::Tensor differ_;                          ///< whether layers ever differed; undefined: none
  Summing summing_;
  std::vector<at::Tensor> gradients_;
  std::vector<const void*> memories_;  ///< by parameter
};

}  // namespace x_transformers
