// The arithmetic of one update of AdamW, and the engines that run it.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// What one update of several weights reads and changes: lists of one length.
struct AdamWUpdate {
  /// Gradients may be of a smaller type than the weights.
  const std::vector<at::Tensor>&weights, &gradients, &exp_avgs, &exp_avg_sqs;
  const std::vector<at::Tensor>& steps;  ///< fp32 scalars, this update counted already
  double learning_rate = 0;
  at::Tensor device_learning_rate = {};  ///< fp32 scalar that stands in its place where defined
  double beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
  at::Tensor grad_scale = {};  ///< fp32 scalar that gradients are divided by; undefined: 1
  at::Tensor found_inf = {};   ///< fp32 scalar: where it is 1 nothing changes; undefined: 0
  std::vector<at::Tensor> copies = {};  ///< one of each weight, to be rewritten; empty: none
};

/// Changes weights and moments as the formula of AdamW says (adamw.h). What it leaves in the
/// gradients is meaningless.
void adamw_update(const AdamWUpdate& update);

/// By the engine of this name. Throws InputError with the reasons where it cannot run.
void adamw_update_on(const std::string& engine, const AdamWUpdate& update);
/// The engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_adamw_update(const AdamWUpdate& update);

}  // namespace x_transformers
