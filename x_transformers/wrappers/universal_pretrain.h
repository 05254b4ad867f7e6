// Training without data: UniversalPretrainWrapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/models/synthetic_data.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/wrappers/autoregressive.h"
#include "x_transformers/wrappers/universal_pretrain_options.h"

namespace x_transformers {

/// Universal pre-training by iterated random computation (arXiv:2506.20057, algorithm 1): a model
/// learns to predict sequences that a random network has computed from random sequences, and from
/// others that it has computed before.
class UniversalPretrainWrapperImpl : public torch::nn::Module, public CaptureCheck {
 public:
  /// Without a generator, one of the model's tokens and features. InputError for impossible
  /// options, and for a model that looks ahead.
  explicit UniversalPretrainWrapperImpl(std::shared_ptr<TokenModel> model,
                                        UniversalPretrainWrapperOptions options = {},
                                        SyntheticDataGenerator data_generator = nullptr);

  /// Computes new sequences and returns the loss of a batch of those in the buffer, in nats a
  /// token. Draws at random, in evaluation too.
  at::Tensor forward();

  /// The model as it is trained.
  AutoregressiveWrapper& ar_wrapped() { return ar_wrapped_; }
  SyntheticDataGenerator& data_generator() { return data_generator_; }
  /// [buffer_size, seq_len] int64
  const at::Tensor& buffer() const { return synth_data_buffer_; }
  const UniversalPretrainWrapperOptions& options() const { return options_; }
  Text capture_unsupported() const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor random_sequences(int64_t noise, int64_t constant) const;
  at::Tensor draw_rows(int64_t count) const;
  at::Tensor draw_seeds() const;
  void compute_sequences();

  UniversalPretrainWrapperOptions options_;
  int64_t num_tokens_ = 0;
  AutoregressiveWrapper ar_wrapped_{nullptr};
  SyntheticDataGenerator data_generator_{nullptr};
  at::Tensor synth_data_buffer_, step_;
};
TORCH_MODULE(UniversalPretrainWrapper);

}  // namespace x_transformers
