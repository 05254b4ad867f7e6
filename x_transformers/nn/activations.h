// Activations of the feed-forward.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/options.h"
#include "x_transformers/nn/activation_options.h"
#include "x_transformers/nn/norms.h"
#include "x_transformers/ops/activation.h"

namespace x_transformers {

/// A function of each entry, or a module with parameters (SoLU); [..., dim] -> [..., dim].
class ActivationModule : public torch::nn::Module {
 public:
  virtual at::Tensor forward(const at::Tensor& x) = 0;
  /// The plain function that it computes, if fused kernels know it.
  virtual std::optional<Activation> plain() const { return std::nullopt; }
  /// Whether the output for a token depends on that token alone.
  virtual bool is_per_token() const { return true; }
  /// Whether it draws random numbers in training.
  virtual bool draws() const { return false; }
  /// The module whose parameters these are.
  virtual std::shared_ptr<torch::nn::Module> registered() { return shared_from_this(); }
};

/// softmax(x) * x, then a layer norm (https://transformer-circuits.pub/2022/solu).
class SoLU : public ActivationModule {
 public:
  explicit SoLU(int64_t dim);
  at::Tensor forward(const at::Tensor& x) override;

 private:
  std::shared_ptr<LayerNorm> norm_;
};

std::shared_ptr<ActivationModule> make_softmax_activation(const SoftmaxOptions& options);

std::shared_ptr<ActivationModule> make_activation(Activation activation);

/// An activation of torch.nn by its name and arguments: GELU, ReLU, SiLU, SELU, ELU, Tanh, Sigmoid,
/// Softplus, Mish, ... or ReluSquared, SoLU. Throws InputError, with the nearest known one, for
/// another.
std::shared_ptr<ActivationModule> make_activation(const ModuleSpec& spec);

/// The names that make_activation knows.
std::vector<std::string> activation_names();

}  // namespace x_transformers
