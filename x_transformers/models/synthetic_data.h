// Structured sequences without data: SyntheticDataGenerator.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/models/synthetic_data_options.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

/// A random recurrent network that computes sequences from a seed and from other sequences
/// (universal pre-training by iterated random computation, arXiv:2506.20057). It is not trained.
class SyntheticDataGeneratorImpl : public torch::nn::Module {
 public:
  struct Output {
    at::Tensor logits;                ///< [b, n, num_tokens]
    std::vector<at::Tensor> hiddens;  ///< the state: of an LSTM two tensors, else one
  };

  /// Throws InputError for impossible options.
  explicit SyntheticDataGeneratorImpl(SyntheticDataGeneratorOptions options);
  /// input [b, n] int64, going on from `hiddens`, or from nothing.
  Output forward(const at::Tensor& input, const std::vector<at::Tensor>& hiddens = {});
  /// The last max_seq_len of seed [b, m], condition [b, k] and `length` tokens that follow; one of
  /// the two may be undefined. No gradients are recorded.
  at::Tensor generate(int64_t length, const at::Tensor& seed, const at::Tensor& condition,
                      double temperature = kTemperature);
  /// Draws all weights anew: another network.
  void reset();
  const SyntheticDataGeneratorOptions& options() const { return options_; }

  /// Almost greedy.
  static constexpr double kTemperature = 1e-4;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  Output run(const at::Tensor& embedded, const std::vector<at::Tensor>& hiddens);

  SyntheticDataGeneratorOptions options_;
  torch::nn::Embedding embed_{nullptr};
  CallableModule network_;
  Linear to_logits_{nullptr};
};
TORCH_MODULE(SyntheticDataGenerator);

}  // namespace x_transformers
