// The tensors that an optimizer works on, with their names.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace x_transformers {

/// Tensors and their names, in one order: `names[i]` is that of `tensors[i]`.
struct NamedTensors {
  std::vector<std::string> names;
  std::vector<at::Tensor> tensors;
};

/// The parameters of `module` that require a gradient, by their state_dict names. A tensor
/// registered under several names is listed once, under the first. Throws InputError when there is
/// none, when they are on several devices or when they have several types.
NamedTensors trainable_parameters(const torch::nn::Module& module);

/// Changes the type of `parameters` in place (the modules that hold them see it) and returns fp32
/// copies of what they were before: the master weights of mixed precision training
/// (arXiv:1710.03740).
std::vector<at::Tensor> cast_parameters(const NamedTensors& parameters, at::ScalarType dtype);
/// The same of the trainable `parameters` of `module`; its others, which compute with them, change
/// their type too.
std::vector<at::Tensor> cast_parameters(torch::nn::Module& module, const NamedTensors& parameters,
                                        at::ScalarType dtype);

/// For as long as it lives, `parameters` are the tensors `values`, of the same shapes but of any
/// type; then they are what they were again, at the same addresses. Used to evaluate and to save
/// averaged or fp32 weights.
class ScopedWeights {
 public:
  ScopedWeights(std::vector<at::Tensor> parameters, const std::vector<at::Tensor>& values);
  ~ScopedWeights();
  ScopedWeights(const ScopedWeights&) = delete;
  ScopedWeights& operator=(const ScopedWeights&) = delete;

 private:
  std::vector<at::Tensor> parameters_, before_;
};

}  // namespace x_transformers
