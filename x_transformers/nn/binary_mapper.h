// Codes of independent bits that are drawn: BinaryMapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <numbers>
#include <optional>

#include "x_transformers/nn/binary_mapper_options.h"

namespace x_transformers {

/// How a call of a BinaryMapper draws, and what beside it computes.
struct BinaryMapperCall {
  double temperature = 1.0;                             ///< divides the logits that are drawn from
  std::optional<bool> straight_through = std::nullopt;  ///< default: in training
  std::optional<bool> calc_aux_loss = std::nullopt;     ///< default: in training
};

/// Draws each bit of a code with the probability sigmoid(logit) (free transformer,
/// arXiv:2510.17558). Gradients go to the logits as if the probabilities of all codes had come out
/// (straight through).
class BinaryMapperImpl : public torch::nn::Module {
 public:
  struct Output {
    at::Tensor codes;        ///< [...] int64: what was drawn
    at::Tensor one_hot;      ///< [..., 2 ** bits] the same, with the gradient if there is one
    at::Tensor aux_kl_loss;  ///< scalar: nats of a code above the threshold, mean; 0 if not asked
  };

  /// Throws InputError for impossible options.
  explicit BinaryMapperImpl(const BinaryMapperOptions& options);
  /// logits [..., bits]
  Output forward(const at::Tensor& logits, const BinaryMapperCall& call = {});
  int64_t num_codes() const { return int64_t{1} << options_.bits; }
  const BinaryMapperOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor code_probabilities(const at::Tensor& logits) const;

  BinaryMapperOptions options_;
};
TORCH_MODULE(BinaryMapper);

}  // namespace x_transformers
