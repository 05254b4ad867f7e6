// The loss of a model that gives logits for what a batch names classes of.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/interchange/model.h"

namespace x_transformers {

/// The cross entropy of the logits of a forward of the batch's other tensors, against its tensor
/// labels (int64, as the logits without their last dimension; -100 counts nothing): mean, in nats.
/// InputError where they do not fit.
at::Tensor labelled_loss(Model& model, const TensorMap& batch);

}  // namespace x_transformers
