// Features that reach the next token (token shift).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// x [b, n, d] with its first `count` features one token later. The first token gets those of
/// `before` [b, 1, count], or zeros where that is undefined.
at::Tensor shift_features(const at::Tensor& x, int64_t count, const at::Tensor& before = {});

}  // namespace x_transformers
