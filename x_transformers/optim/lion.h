// Lion: the sign of a momentum.
#pragma once

#include <vector>

#include "x_transformers/optim/lion_options.h"
#include "x_transformers/optim/weightwise.h"

namespace x_transformers {

/// Lion (arXiv:2302.06675, algorithm 2), with decoupled weight decay of tensors with two or more
/// dimensions:
///   w = w - lr weight_decay w - lr sign(beta1 m + (1 - beta1) g),  m = beta2 m + (1 - beta2) g
/// Every entry moves by lr, so lr should be a third to a tenth of AdamW's, and weight_decay larger
/// by the same factor. State: `exp_avg.<name>`.
class Lion : public WeightwiseOptimizer {
 public:
  Lion(NamedTensors parameters, double learning_rate, double weight_decay, LionOptions options,
       std::vector<at::Tensor> masters = {});

 protected:
  std::vector<Moment> moments_of(const at::Tensor& weight) const override;
  void update(const Entries& entries, const Step& step) override;

 private:
  LionOptions options_;
  double weight_decay_;
};

}  // namespace x_transformers
