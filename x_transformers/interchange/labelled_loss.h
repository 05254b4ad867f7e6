// The loss of a model that gives logits for what a batch names classes of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/interchange/model.h"

namespace x_transformers {

/// The cross entropy of the logits of a forward of the batch's other tensors, against its tensor
/// labels (int64, as the logits without their last dimension; -100 counts nothing): mean, in nats.
/// InputError where they do not fit.
at::Tensor labelled_loss(Model& model, const TensorMap& batch);

/// The mean square error of the first floating-point result of a forward of the batch's other
/// tensors, against its tensor target, which has its sizes. InputError where they do not fit.
at::Tensor target_loss(Model& model, const TensorMap& batch);

/// The loss of a model whose forward gives none: of labels, or of a target. InputError where the
/// batch has neither.
at::Tensor answered_loss(Model& model, const TensorMap& batch);

/// What such a loss takes of the answers: labels below `classes`, as the option `counted_by` has
/// it, and target. Both are [examples] and `sizes` of an example, -1: of any length; target has one
/// axis more, of `classes` numbers.
LossInputs answered_inputs(std::vector<int64_t> sizes, std::optional<int64_t> classes,
                           const OptionPath& counted_by);

}  // namespace x_transformers
