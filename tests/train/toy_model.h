// A model class of a user's own: no tokens, continuous input, two tensors a batch.
#pragma once

#include <torch/nn/module.h>

#include "x_transformers/core/options.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers::toy {

struct ToyOptions {
  int64_t dim = 0;
  int64_t hidden = 8;
  bool squared = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of x");
    v("hidden", hidden, "hidden features");
    v("squared", squared, "the activation is squared");
  }
};

/// Predicts a number for each entry of a sequence of features.
class ToyImpl : public torch::nn::Module {
 public:
  explicit ToyImpl(const ToyOptions& options);
  /// x [batch, seq, dim] -> [batch, seq]
  at::Tensor forward(const at::Tensor& x);
  const ToyOptions& options() const { return options_; }

 private:
  ToyOptions options_;
  Linear in_{nullptr}, out_{nullptr};
};
TORCH_MODULE(Toy);

/// Makes the type "Toy" known to model files.
void register_toy();

}  // namespace x_transformers::toy
