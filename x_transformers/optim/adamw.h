// AdamW with fused kernels and fp32 master weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "x_transformers/optim/adamw_options.h"
#include "x_transformers/optim/optimizer.h"

namespace x_transformers {

/// Adam with decoupled weight decay (arXiv:1711.05101):
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   w = w - lr weight_decay w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
/// Tensors with two or more dimensions decay, embeddings too; biases and gains do not (as nanoGPT
/// does). A step launches work and reads nothing back, so that it can be captured in a CUDA graph.
class AdamW : public Optimizer {
 public:
  /// See Optimizer.
  AdamW(NamedTensors parameters, AdamWOptions options, std::vector<at::Tensor> masters = {});

  bool takes_low_gradients() const override { return true; }
  /// By the engines of adamw_update.h.
  void step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale = {},
            const at::Tensor& found_inf = {}) override;

  int64_t count_moments() const override;

  std::vector<StateShape> state_shapes(size_t parameter) const override {
    const auto sizes = weights_.tensors[parameter].sizes().vec();
    return {{"exp_avg", sizes}, {"exp_avg_sq", sizes}};
  }
  /// With `exp_avg.<name>` and `exp_avg_sq.<name>`.
  std::map<std::string, at::Tensor> state_dict() const override;
  void load_state_dict(const std::map<std::string, at::Tensor>& state) override;

 private:
  struct Group;
  void make_moments(size_t i);
  void update(const Group& group, double weight_decay, const at::Tensor& grad_scale,
              const at::Tensor& found_inf);

  AdamWOptions options_;
  std::vector<at::Tensor> exp_avgs_, exp_avg_sqs_;  // undefined before the first gradient
  std::vector<at::Tensor> steps_;
};

}  // namespace x_transformers
