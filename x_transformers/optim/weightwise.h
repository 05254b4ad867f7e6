// What optimizers share that update each weight by itself.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "x_transformers/optim/optimizer.h"

namespace x_transformers {

/// An optimizer whose update of a weight depends on that weight, its gradients and some tensors of
/// state, its moments. Counts the updates of each weight, keeps the state, and hands on the weights
/// that have a gradient.
class WeightwiseOptimizer : public Optimizer {
 public:
  using Optimizer::Optimizer;

  void step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale = {},
            const at::Tensor& found_inf = {}) override;
  int64_t count_moments() const override;
  std::vector<StateShape> state_shapes(size_t parameter) const override {
    return moments_of(weights_.tensors[parameter]);
  }
  std::map<std::string, at::Tensor> state_dict() const override;
  void load_state_dict(const std::map<std::string, at::Tensor>& state) override;

 protected:
  /// A tensor of state, zero before the first update.
  using Moment = StateShape;
  /// What an update of one weight reads and writes.
  struct Entry {
    at::Tensor weight, gradient;
    at::Tensor step;  ///< fp32 scalar on the device: updates, this one among them
    std::vector<at::Tensor> moments;
  };
  using Entries = std::vector<Entry>;

  /// A step that may turn out to change nothing: where `skipped`, on the device, is true.
  struct Step {
    at::Tensor learning_rate;  ///< scalar; 0 where the step is skipped
    at::Tensor skipped;        ///< bool scalar on CUDA; undefined: this step is none of those

    /// `value`, but `otherwise` in a skipped step, in which gradients may be NaN.
    at::Tensor unless_skipped(const at::Tensor& value, const at::Tensor& otherwise) const;
    /// 1 - learning rate * weight decay.
    at::Tensor decay_factor(double weight_decay) const;
  };

  virtual std::vector<Moment> moments_of(const at::Tensor& weight) const = 0;
  /// Changes weights and moments; in a skipped step neither.
  virtual void update(const Entries& entries, const Step& step) = 0;

 private:
  void make_moments(size_t i);
  void reserve_state();

  std::vector<std::vector<at::Tensor>> moments_;  // empty before a weight's first gradient
  std::vector<at::Tensor> steps_;
};

/// Multiplies by 1 - learning rate * weight decay the weights with two or more dimensions, which
/// alone decay (as nanoGPT does).
void decay_matrices(const std::vector<at::Tensor>& weights, const at::Tensor& factor);

}  // namespace x_transformers
