// AdamW with fused kernels and fp32 master weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "x_transformers/optim/adamw_options.h"
#include "x_transformers/optim/parameters.h"

namespace x_transformers {

/// Adam with decoupled weight decay (arXiv:1711.05101):
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   w = w - lr weight_decay w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
/// Tensors with two or more dimensions decay, embeddings too; biases and gains do not (as nanoGPT
/// does). A step launches work and reads nothing back, so that it can be captured in a CUDA graph.
class AdamW {
 public:
  /// Trains `parameters` (leaves, one device, one type). With `masters` (fp32, one for each
  /// parameter, see cast_parameters) these are updated, and the parameters rewritten from them
  /// after each step.
  AdamW(NamedTensors parameters, AdamWOptions options, std::vector<at::Tensor> masters = {});

  /// The learning rate of the steps to come; on CUDA a tensor that a captured step reads.
  void set_learning_rate(double learning_rate);
  double learning_rate() const { return learning_rate_; }

  /// One update. `gradients`: one for each parameter, in the type of the weights; where undefined,
  /// nothing changes. They are divided by `grad_scale` (fp32 scalar), in place. Where `found_inf`
  /// (fp32 scalar) is 1 nothing changes at all.
  void step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale = {},
            const at::Tensor& found_inf = {});

  const NamedTensors& parameters() const { return parameters_; }
  bool has_masters() const { return has_masters_; }
  /// What is updated, in full precision: the masters, or the parameters themselves.
  const NamedTensors& weights() const { return weights_; }
  /// Rewrites the parameters from the masters; nothing without masters.
  void write_parameters();

  /// Parameters that have their two moments: the first gradient makes them, so that what is never
  /// trained costs no memory.
  int64_t count_moments() const;

  /// `step.<name>` for each parameter, `exp_avg.<name>` and `exp_avg_sq.<name>` for each that has
  /// had a gradient; what load_state_dict takes. The weights are not among them.
  std::map<std::string, at::Tensor> state_dict() const;
  /// Throws InputError for a tensor that is missing or has another shape.
  void load_state_dict(const std::map<std::string, at::Tensor>& state);

 private:
  struct Group;
  void make_moments(size_t i);
  void update(const Group& group, double weight_decay, const at::Tensor& grad_scale,
              const at::Tensor& found_inf);

  NamedTensors parameters_, weights_;
  bool has_masters_;
  AdamWOptions options_;
  double learning_rate_;
  at::Tensor device_learning_rate_;                 // CUDA only
  std::vector<at::Tensor> exp_avgs_, exp_avg_sqs_;  // undefined before the first gradient
  std::vector<at::Tensor> steps_;
};

}  // namespace x_transformers
