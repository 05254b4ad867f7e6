// Adafactor: second moments of matrices by their rows and columns.
#pragma once

#include <vector>

#include "x_transformers/optim/adafactor_options.h"
#include "x_transformers/optim/weightwise.h"

namespace x_transformers {

/// Adafactor (arXiv:1804.04235) as torch.optim.Adafactor computes it: the second moment of a tensor
/// with two or more dimensions is the product of the means over rows and over columns of its last
/// two, so that its state is that of a vector; the rate is min(lr, 1 / sqrt(step)) in units of the
/// weight's root mean square; an update whose root mean square exceeds `d` is scaled down to it.
/// Tensors with two or more dimensions decay by lr weight_decay. State: `row_var.<name>` and
/// `col_var.<name>`, or `variance.<name>` of vectors.
class Adafactor : public WeightwiseOptimizer {
 public:
  Adafactor(NamedTensors parameters, double learning_rate, double weight_decay,
            AdafactorOptions options, std::vector<at::Tensor> masters = {});

 protected:
  std::vector<Moment> moments_of(const at::Tensor& weight) const override;
  void update(const Entries& entries, const Step& step) override;

 private:
  at::Tensor variance(const Entry& entry, const Step& step, const at::Tensor& gradient) const;
  double eps1(const at::Tensor& weight) const;

  AdafactorOptions options_;
  double weight_decay_;
};

}  // namespace x_transformers
