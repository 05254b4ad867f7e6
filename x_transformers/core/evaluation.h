// Evaluation mode for as long as it is needed.
#pragma once

#include <torch/nn/module.h>
#include <torch/utils.h>

namespace x_transformers {

/// While it lives, `module` is in evaluation mode and no gradients are recorded.
class Evaluation {
 public:
  explicit Evaluation(torch::nn::Module& module)
      : module_(module), was_training_(module.is_training()) {
    module_.eval();
  }
  ~Evaluation() { module_.train(was_training_); }
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;

 private:
  torch::nn::Module& module_;
  bool was_training_;
  torch::NoGradGuard no_grad_;
};

}  // namespace x_transformers
