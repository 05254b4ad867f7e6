// Statistics of gradients and activations by layer, for train.watch.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "x_transformers/core/probe.h"
#include "x_transformers/optim/optimizer.h"
#include "x_transformers/runs/watched_number.h"

namespace x_transformers {

/// Sees what the layers of a model show in the forward passes of a step (core/probe.h), and
/// measures the gradients by which the step changes the weights. Parameters belong to their layer
/// of a stack, NAME.layers.3, or else to their module. Of gradients and weights: the l2 norm
/// (grad_norm, weight_norm) and the largest absolute value (grad_max), before clipping. Of
/// activations, over all micro-batches: the root mean square and the largest absolute value of the
/// residual stream after the layer (stream_rms, stream_max), and the root mean square of what the
/// layer adds (branch_rms). All in fp32, whatever the precision. Reads nothing from the device, so
/// that a step can be captured in a CUDA graph with it.
class Watch : public Probe {
 public:
  /// `model` and `optimizer` must outlive this.
  Watch(const torch::nn::Module& model, const Optimizer& optimizer);

  /// Forgets the activations: a new step begins.
  void begin();
  void see(const torch::nn::Module& module, const char* what, const at::Tensor& value) override;
  /// All numbers of the step, fp32 [numbers]: NaN where nothing was seen. `gradients` are those of
  /// the optimizer's parameters, of which some may be undefined.
  at::Tensor measure(const std::vector<at::Tensor>& gradients);
  /// What `measured` holds, read from the device; without what no pass has shown.
  std::vector<WatchedNumber> read(const at::Tensor& measured) const;

 private:
  struct Activation {
    at::Tensor squares, largest;  ///< fp32 scalars, undefined before the first
    double count = 0;             ///< entries whose squares are in the sum
  };
  struct Group {
    std::string layer;
    bool has_gradients = false;  ///< whether some pass has reached it
  };
  struct Shown {
    std::string layer;
    Activation stream, branch;
    bool is_seen = false;  ///< whether some pass has shown it
  };

  static void add(Activation& activation, const at::Tensor& value);

  const Optimizer& optimizer_;
  std::vector<Group> groups_;     // of parameters
  std::vector<size_t> group_of_;  // of each parameter
  std::map<const torch::nn::Module*, size_t>
      places_;  // in shown_, of modules that may show something
  std::vector<Shown> shown_;
};

}  // namespace x_transformers
