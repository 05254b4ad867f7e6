// Parameters of ruling out the less likely of each row's tokens, on CUDA.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// out = x where a logit is kept, else -infinity. `count` highest ones are kept; with count 0 the
/// highest ones until their share of softmax(x) passes `share`: a logit is kept if those before it
/// have at most that. Of equal logits at the edge the first are kept.
struct KeepLikely {
  const float* x = nullptr;  ///< dense [rows, dim]
  float* out = nullptr;      ///< the same
  int64_t rows = 0;
  int64_t dim = 0;
  int64_t count = 0;
  float share = 1;
};

}  // namespace x_transformers::kernels
