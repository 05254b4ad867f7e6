// An optimizer whose state is shared out among the processes that train one model.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/optim/optimizer.h"

namespace x_transformers {

/// A rank for each parameter of these sizes, so that all have about as many numbers: the largest
/// first, each to the rank that has the fewest.
std::vector<int64_t> share_out(const std::vector<int64_t>& sizes, int64_t world);

/// `own`, which one rank has and others have undefined, on the CPU of rank 0; undefined on the
/// others. Every rank calls it with the same `sizes`, and with `options` of the tensor on its
/// device.
at::Tensor on_first_rank(const at::Tensor& own, at::IntArrayRef sizes,
                         const at::TensorOptions& options, const WorldPlace& place,
                         const SumOverRanks& sum);

/// What a rank keeps between steps of its share alone.
enum class Shared { state, state_and_weights };

/// Each rank keeps the state of some parameters and updates these (ZeRO, arXiv:1910.02054): with
/// Shared::state it has the gradients of all and gives the new weights to the others (stage 1),
/// else it has those of its share alone, and others ask for the weights when they use them (stage
/// 3, as ParameterShards does). The numbers are those of `whole` alone, to the bit, since no update
/// depends on another parameter.
class ShardedOptimizer : public Optimizer {
 public:
  /// `whole` is an optimizer of all parameters, which has no state yet: it makes that of a
  /// parameter with its first gradient. Without `give` new weights come by sums.
  ShardedOptimizer(std::unique_ptr<Optimizer> whole, const WorldPlace& place, SumOverRanks sum,
                   Shared shared = Shared::state, StartGivingToRanks give = {});

  void set_learning_rate(double learning_rate) override;
  /// All ranks call it, with the same gradients, or each with those of its share.
  void step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale = {},
            const at::Tensor& found_inf = {}) override;
  /// Those of this rank.
  int64_t count_moments() const override { return whole_->count_moments(); }
  std::vector<StateShape> state_shapes(size_t parameter) const override {
    return whole_->state_shapes(parameter);
  }
  /// That of all ranks, on the first; each calls it, and gets what is its own.
  std::map<std::string, at::Tensor> state_dict() const override;
  /// Takes this rank's part of the state of a whole.
  void load_state_dict(const std::map<std::string, at::Tensor>& state) override;

  /// The rank that keeps the state of a parameter.
  int64_t owner(size_t parameter) const { return owners_[parameter]; }

 private:
  bool is_own(size_t parameter) const { return owners_[parameter] == place_.rank; }

  std::unique_ptr<Optimizer> whole_;
  WorldPlace place_;
  SumOverRanks sum_;
  StartGivingToRanks give_;
  Shared shared_;
  std::vector<int64_t> owners_;
};

}  // namespace x_transformers
