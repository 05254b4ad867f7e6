// Leaving out whole tokens of a sequence in training.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace x_transformers {

/// Keeps a random part (1 - dropout, at least one token) of seq [b, n, d], the same number in each
/// row, and its mask [b, n] (may be undefined). Masked tokens go first (structured dropout,
/// arXiv:2202.07765 uses it for long contexts).
std::pair<at::Tensor, at::Tensor> dropout_seq(const at::Tensor& seq, const at::Tensor& mask,
                                              double dropout);

}  // namespace x_transformers
