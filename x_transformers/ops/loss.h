// Losses of class predictions. The classes are the last dimension: no transposed copy is needed as
// in Python.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/core/ignored_target.h"
#include "x_transformers/ops/engines.h"

namespace x_transformers {

enum class Reduction { none, mean, sum };

/// -log softmax(logits)[target] for logits [..., c] and int64 target [...], equal to torch's
/// cross_entropy. Targets equal to `ignore_index` count neither in the sum nor in the mean; with
/// `Reduction::none` their loss is 0. The mean over no target at all is NaN with gradient 0, as in
/// torch. Throws InputError, with its place, for a target that is neither a class nor ignore_index
/// (on the CPU).
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& target,
                         int64_t ignore_index = kIgnoredTarget,
                         Reduction reduction = Reduction::mean);

/// As cross_entropy, by the engine of this name. Throws InputError with the reasons where it cannot
/// run.
at::Tensor cross_entropy_on(const std::string& engine, const at::Tensor& logits,
                            const at::Tensor& target, int64_t ignore_index = kIgnoredTarget,
                            Reduction reduction = Reduction::mean);
/// The engines of cross_entropy in order of preference, each with its reasons against.
std::vector<EngineReport> explain_cross_entropy(const at::Tensor& logits, const at::Tensor& target);

/// cross_entropy of log-probabilities: -log_probs[target].
at::Tensor nll(const at::Tensor& log_probs, const at::Tensor& target,
               int64_t ignore_index = kIgnoredTarget, Reduction reduction = Reduction::mean);

/// cross_entropy of logits in bfloat16 by way of their softmax, for logits too large to be held in
/// float32; what cross_entropy runs for them on CUDA where our kernels are not there. The loss is
/// float32, and of one token at most 87 nats; loss and gradient are as exact as the softmax in
/// bfloat16. Nothing is read from the device.
at::Tensor cross_entropy_by_softmax(const at::Tensor& logits, const at::Tensor& target,
                                    int64_t ignore_index = kIgnoredTarget,
                                    Reduction reduction = Reduction::mean);

/// Overwrites logits [rows, classes], whose rows are dense, with their gradient
/// scale * (softmax(logits) - one_hot(target)), 0 for rows whose target is ignored, and returns the
/// loss of each row [rows], float32.
/// What lies between the rows is set to 0. `scale`, one float32 number, stays on the device. On
/// CUDA, by a kernel of ours: ask cuda_kernel_reasons.
at::Tensor loss_and_logits_grad(at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                                const at::Tensor& scale);

/// Why the fused CPU kernel cannot run on these logits; empty: it can.
std::string cross_entropy_unsupported(const at::Tensor& logits);

/// cross_entropy made of ATen calls, for every device, dtype and order of gradient.
at::Tensor cross_entropy_reference(const at::Tensor& logits, const at::Tensor& target,
                                   int64_t ignore_index = kIgnoredTarget,
                                   Reduction reduction = Reduction::mean);

}  // namespace x_transformers
