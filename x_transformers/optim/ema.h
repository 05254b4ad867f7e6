// An exponential moving average of the weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "x_transformers/optim/parameters.h"

namespace x_transformers {

/// The weighted mean of the weights after each update so far, where an update `n` steps ago counts
/// decay^n (arXiv:1803.05407 and before; Polyak averaging). The sum of the counts is kept beside
/// the sum of the weights, as Adam corrects its bias, so that the start does not pull the mean for
/// long and `decay` needs no warm-up.
class Ema {
 public:
  /// Averages `weights` (fp32), which may be a process's share, read at each update. Throws
  /// InputError unless 0 < decay < 1.
  Ema(NamedTensors weights, double decay);
  /// Counts the weights of now. Launches work only: fit for a CUDA graph.
  void update();
  /// The means, fp32, new tensors; before the first update, copies of the weights.
  std::vector<at::Tensor> averages() const;

  /// `ema.<name>` for each weight and `ema_count`; what load_state_dict takes.
  std::map<std::string, at::Tensor> state_dict() const;
  /// Throws InputError for a tensor that is missing or has another shape.
  void load_state_dict(const std::map<std::string, at::Tensor>& state);

 private:
  NamedTensors weights_;
  double decay_;
  std::vector<at::Tensor> sums_;
  at::Tensor count_;  // fp32 scalar: the sum of decay^n
};

}  // namespace x_transformers
