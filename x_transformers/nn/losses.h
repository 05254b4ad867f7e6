// Losses of continuous predictions, and losses given as values (loss_fn) by the names of their
// types. A C++ user adds types of their own:
//
//   register_loss("MyLoss", [](const ModuleSpec& spec) -> TargetLoss { ... });
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "x_transformers/core/options.h"

namespace x_transformers {

/// What was predicted and the target, to a loss for each entry or of all.
using TargetLoss = std::function<at::Tensor(const at::Tensor& predicted, const at::Tensor& target)>;

/// -log of the density of `target` under normal distributions, without the constant: (log variance
/// + (target - mean)^2 / variance) / 2 for each entry (doi:10.1109/ICNN.1994.374138). Variances
/// below 1e-6 count as 1e-6, with the gradient that they would have.
at::Tensor gaussian_nll(const at::Tensor& mean, const at::Tensor& variance,
                        const at::Tensor& target);

/// The cross entropy of logits [..., classes] against `labels` (int64, as the logits without their
/// last dimension; kIgnoredTarget counts nothing): mean, in nats. InputError of `labels` where they
/// do not fit.
at::Tensor label_loss(const at::Tensor& logits, const at::Tensor& labels);

/// The mean square error of what was predicted against `target`, which has its sizes, in float32.
/// InputError of `target` where they do not fit.
at::Tensor square_loss(const at::Tensor& predicted, const at::Tensor& target);

/// Makes a loss of `spec`; its errors are of the options within it.
using MakeLoss = std::function<TargetLoss(const ModuleSpec& spec)>;

/// Makes `type` known to make_loss. Throws InputError for a type that is known already.
void register_loss(const std::string& type, MakeLoss make);

/// The loss that `spec` names: GaussianNLL (of a mean and a variance, stacked), a loss of torch.nn
/// (MSELoss, L1Loss, SmoothL1Loss, HuberLoss, ...) or a registered type. Throws InputError, with
/// the nearest known type, for another; the caller says of which option (core/spelling.h, within).
TargetLoss make_loss(const ModuleSpec& spec);

}  // namespace x_transformers
