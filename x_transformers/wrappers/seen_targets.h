// A warning of nets that see the tokens which they are trained to predict.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace x_transformers {

/// While it lives, this thread is not warned of next-token training of nets that are not causal:
/// for those who mean it, as `train.allow_non_causal` says for the trainer.
class NonCausalMeant {
 public:
  NonCausalMeant();
  ~NonCausalMeant();
  NonCausalMeant(const NonCausalMeant&) = delete;
  NonCausalMeant& operator=(const NonCausalMeant&) = delete;
};

/// Warns, once in a process, where `wrapper` trains its net, called `net`, to predict tokens that
/// the net sees: in train mode with gradients, of a net that is not causal, with no `attn_mask`
/// that could hide them. The loss is as in Python; it falls to nothing, as the net copies them.
void warn_of_seen_targets(const torch::nn::Module& wrapper, const char* net, bool is_causal,
                          const at::Tensor& attn_mask = {});

}  // namespace x_transformers
