// What training asks of an optimizer, whichever it is.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "x_transformers/optim/parameters.h"

namespace x_transformers {

/// A tensor that an optimizer keeps of a parameter.
struct StateShape {
  std::string name;  ///< in its state, before "." and the parameter's
  std::vector<int64_t> sizes;
};

/// Changes weights by their gradients. A step launches work and reads nothing back from a CUDA
/// device, so that it can be captured in a CUDA graph.
class Optimizer {
 public:
  /// Trains `parameters` (leaves, one device, one type). With `masters` (fp32, one for each
  /// parameter, see cast_parameters) these are updated, and the parameters rewritten from them
  /// after each step.
  Optimizer(NamedTensors parameters, double learning_rate, std::vector<at::Tensor> masters = {});
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// The learning rate of the steps to come; on CUDA a tensor that a captured step reads.
  virtual void set_learning_rate(double learning_rate);
  double learning_rate() const { return learning_rate_; }

  /// Whether gradients may have the type of the parameters, where that is not the weights'.
  virtual bool takes_low_gradients() const { return false; }
  /// One update. `gradients`: one for each parameter, in the type of the weights; where undefined,
  /// nothing changes. They are divided by `grad_scale` (fp32 scalar), in place. Where `found_inf`
  /// (fp32 scalar) is 1 nothing changes at all.
  virtual void step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale = {},
                    const at::Tensor& found_inf = {}) = 0;

  const NamedTensors& parameters() const { return parameters_; }
  bool has_masters() const { return has_masters_; }
  /// What is updated, in full precision: the masters, or the parameters themselves.
  const NamedTensors& weights() const { return weights_; }
  /// Whether this process has the numbers of a weight between steps: of all, or of its share.
  bool keeps(size_t parameter) const { return kept_.empty() || kept_[parameter]; }
  /// The parameters, and the weights, that it keeps.
  NamedTensors kept_parameters() const { return kept_of(parameters_); }
  NamedTensors kept_weights() const { return kept_of(weights_); }
  /// Rewrites the parameters that are kept from the masters; nothing without masters.
  void write_parameters();

  /// Parameters that have their moments: the first gradient makes them, so that what is never
  /// trained costs no memory.
  virtual int64_t count_moments() const = 0;

  /// What is kept of a parameter, by its place among them, that has had a gradient.
  virtual std::vector<StateShape> state_shapes(size_t parameter) const = 0;
  /// `step.<name>` for each parameter, and what the optimizer keeps of each that has had a
  /// gradient; what load_state_dict takes. The weights are not among them.
  virtual std::map<std::string, at::Tensor> state_dict() const = 0;
  /// Throws InputError for a tensor that is missing or has another shape.
  virtual void load_state_dict(const std::map<std::string, at::Tensor>& state) = 0;

 protected:
  NamedTensors parameters_, weights_;
  std::vector<bool> kept_;  ///< by parameter; empty: all are
  bool has_masters_;
  double learning_rate_;
  at::Tensor device_learning_rate_;  // CUDA only

 private:
  NamedTensors kept_of(const NamedTensors& tensors) const;
};

}  // namespace x_transformers
