// Who keeps what autograd needs from a forward pass until the backward pass.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <memory>

namespace x_transformers {

/// Asked each time that autograd is about to keep a tensor.
class TensorKeeper {
 public:
  virtual ~TensorKeeper() = default;
  /// Stands in the graph for the tensor.
  virtual std::unique_ptr<torch::autograd::SavedVariableHooks> placeholder() = 0;
  /// Makes sure of the numbers of a tensor that is about to be used, kept by this or by another.
  virtual void bring_back(const at::Tensor&) {}
  /// Who brings numbers back for graphs that outlive this: this, where it outlives them, or the one
  /// around it; null: nobody.
  virtual TensorKeeper* lasting() { return this; }
};

/// The one that this thread asks; null: autograd keeps its tensors itself.
TensorKeeper* current_keeper();

/// While it lives, this thread asks `keeper`.
class KeepingBy {
 public:
  explicit KeepingBy(TensorKeeper* keeper);
  ~KeepingBy();
  KeepingBy(const KeepingBy&) = delete;
  KeepingBy& operator=(const KeepingBy&) = delete;

 private:
  TensorKeeper* before_;
};

/// Has autograd ask, for the rest of the process; without a keeper nothing changes. Throws RunError
/// where autograd is not LibTorch's own, as within Python, whose engine does not ask; it begins
/// with `what`, which says what cannot be done.
void let_autograd_ask(const char* what);

}  // namespace x_transformers
