// Options of NonAutoregressiveWrapper.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

/// The part of the tokens that is masked at times [b] in [0, 1]: "linear" (1 - t), "cosine"
/// (cos(t pi / 2)), or a function of one's own from near 1 at 0 down to 0 at 1.
using MaskScheduleSpec = FunctionSpec<at::Tensor(const at::Tensor& times)>;

/// Python's arguments beside the nets.
struct NonAutoregressiveWrapperOptions {
  /// token that stands for one to be found
  int64_t mask_id = 0;
  /// calls of the net that a sequence is written in
  int64_t steps = 18;
  /// the net sees what it made of the same tokens before (arXiv:2208.04202)
  bool self_cond = false;
  /// how often it does in training
  double self_cond_train_prob = 0.75;
  /// part of the tokens to be found that stay, in half of the steps (arXiv:1810.04805)
  double no_replace_prob = 0.15;
  /// part of them that random ones replace, in half of the steps (arXiv:1810.04805)
  double random_token_prob = 0.1;
  /// part that is masked at a time: linear, cosine, or a module's name (arXiv:2202.04200)
  MaskScheduleSpec schedule = ModuleSpec{"linear"};
  /// tokens that were found may be masked again in generation
  bool can_mask_prev_unmasked = false;
  /// the net, with a head of its own, judges which tokens are wrong (arXiv:2209.04439)
  bool self_token_critic = false;
  /// weight of the critic's loss
  double critic_loss_weight = 1.0;
  /// weigh each sequence so that the loss bounds that of the text (arXiv:2406.07524)
  bool use_simple_mdlm_loss_weight = true;
  /// Whose numbers losses and generated tokens have.
  Compat compat = {};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("mask_id", mask_id, "token that stands for one to be found");
    v("steps", steps, "calls of the net that a sequence is written in");
    v("self_cond", self_cond, "the net sees what it made of the same tokens before",
      "arXiv:2208.04202");
    v.free("self_cond_train_prob", self_cond_train_prob, "how often it does in training");
    v.free("no_replace_prob", no_replace_prob,
           "part of the tokens to be found that stay, in half of the steps", "arXiv:1810.04805");
    v.free("random_token_prob", random_token_prob,
           "part of them that random ones replace, in half of the steps", "arXiv:1810.04805");
    v("schedule", schedule, "part that is masked at a time: linear, cosine, or a module's name",
      "arXiv:2202.04200");
    v("can_mask_prev_unmasked", can_mask_prev_unmasked,
      "tokens that were found may be masked again in generation");
    v("self_token_critic", self_token_critic,
      "the net, with a head of its own, judges which tokens are wrong", "arXiv:2209.04439");
    v.free("critic_loss_weight", critic_loss_weight, "weight of the critic's loss");
    v.free("use_simple_mdlm_loss_weight", use_simple_mdlm_loss_weight,
           "weigh each sequence so that the loss bounds that of the text", "arXiv:2406.07524");
  }
};

/// Throws InputError for impossible options.
void validate(const NonAutoregressiveWrapperOptions& options);

}  // namespace x_transformers
