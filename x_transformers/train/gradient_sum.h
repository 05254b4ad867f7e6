// Sums gradients over ranks while the backward pass that makes them goes on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/optim/gradients.h"

namespace x_transformers {

/// Begins the sum of a few parameters' gradients as soon as the last backward pass of a step has
/// reached all of them (arXiv:2006.15704). The sums begin in the same order on every rank: from the
/// last parameter, which a pass reaches first, to the first.
class GradientSum {
 public:
  /// `collector`, which must outlive this, collects the gradients of `parameters`.
  GradientSum(const std::vector<at::Tensor>& parameters, GradientCollector& collector,
              StartSumOverRanks start);
  ~GradientSum();
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  /// Before the last backward pass of a step.
  void begin();
  /// After it, or in its place on a rank that has none: begins what is left, with the sum of
  /// `further`, and waits. A gradient that no pass reached is 0 then, since others may have
  /// reached it.
  void finish(const std::vector<at::Tensor>& further);

 private:
  struct Bucket {
    std::vector<size_t> parameters;
    size_t missing = 0;
  };
  class Hook;

  void reached(size_t parameter);
  void start_next();

  std::vector<at::Tensor> parameters_;
  GradientCollector& collector_;
  StartSumOverRanks start_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;
  std::vector<bool> is_reached_;
  std::vector<std::unique_ptr<Hook>> hooks_;
  bool is_watching_ = false;
  size_t next_ = 0;
  std::vector<StartedSum> started_;
};

}  // namespace x_transformers
