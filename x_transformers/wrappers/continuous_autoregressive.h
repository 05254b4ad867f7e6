// Next-step training and generation of continuous values: ContinuousAutoregressiveWrapper.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "x_transformers/models/continuous_net.h"
#include "x_transformers/nn/losses.h"
#include "x_transformers/wrappers/continuous_autoregressive_options.h"

namespace x_transformers {

/// Trains a net to predict each entry of a sequence from those before it, and has it go on
/// (arXiv:2112.05329).
class ContinuousAutoregressiveWrapperImpl : public torch::nn::Module {
 public:
  /// A wrapper around `net`, which it shares. InputError for impossible options, and for a net
  /// whose output cannot be its next input.
  explicit ContinuousAutoregressiveWrapperImpl(std::shared_ptr<ContinuousNet> net,
                                               ContinuousAutoregressiveWrapperOptions options = {});
  /// The same of a module holder, such as ContinuousTransformerWrapper.
  template <class Net>
  explicit ContinuousAutoregressiveWrapperImpl(const torch::nn::ModuleHolder<Net>& net,
                                               ContinuousAutoregressiveWrapperOptions options = {})
      : ContinuousAutoregressiveWrapperImpl(
            std::shared_ptr<ContinuousNet>(net.is_empty() ? nullptr : net.ptr()),
            std::move(options)) {}

  /// The loss [] of predicting each entry of inputs.x [b, n, dim_in], n > 1, from those before it.
  /// `mask` is [b, n] or [b, n - 1]; as in Python, the target after an entry that exists counts.
  at::Tensor forward(ContinuousInputs inputs);
  /// The loss of `rollout_steps` > 1 entries, each predicted from the predictions before it, after
  /// a beginning of random length, one entry at least, in each row. inputs.x [b, n, dim_in], n >
  /// rollout_steps; `lens` [b] says how much of each row exists (a mask has no place here), and
  /// shorter batch entries do not count.
  at::Tensor rollout(const ContinuousInputs& inputs, int64_t rollout_steps);
  /// The next entries [b, seq_len, dim_in] (or [seq_len, dim_in]) after inputs.x [b, n, dim_in] (or
  /// [n, dim_in]).
  at::Tensor generate(ContinuousInputs inputs, const ContinuousGenerateOptions& options);

  const std::shared_ptr<ContinuousNet>& net() const { return net_; }
  const ContinuousAutoregressiveWrapperOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  struct Rollout;
  TargetLoss choose_loss() const;
  at::Tensor predict(const ContinuousInputs& inputs);
  at::Tensor rollout_of_python(ContinuousInputs inputs, int64_t rollout_steps);

  ContinuousAutoregressiveWrapperOptions options_;
  std::shared_ptr<ContinuousNet> net_;
  TargetLoss loss_fn_;
};
TORCH_MODULE(ContinuousAutoregressiveWrapper);

}  // namespace x_transformers
