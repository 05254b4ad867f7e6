// Batches of prompts of several lengths.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>

#include <cstdint>
#include <vector>

namespace x_transformers {

/// Prompts that start together, and how long each is.
struct PromptBatch {
  at::Tensor prompts;  // [batch, longest] int64, padded at the right
  at::Tensor lens;     // [batch] int64 on the CPU
};

/// Joins prompts [length] into a batch. Throws InputError for an empty list, an empty prompt, and
/// prompts that are not one-dimensional integers.
PromptBatch join_prompts(const std::vector<at::Tensor>& prompts, int64_t pad_value = 0);

/// Moves the first `lens[i]` positions of each entry of `prompts` [batch, length, ...] to its end,
/// and fills what stood before them with `pad_value`. `lens` is [batch] of integers. Throws
/// InputError for another shape and, where `lens` is on the CPU, for lengths outside 1 to length
/// (on a device they are not looked at, which would mean waiting).
at::Tensor align_right(const at::Tensor& prompts, const at::Tensor& lens,
                       const at::Scalar& pad_value = 0);

}  // namespace x_transformers
