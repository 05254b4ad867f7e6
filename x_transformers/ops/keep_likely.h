// What may be drawn of a row of logits: the others become -infinity.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// Which logits of a row [vocab] are kept.
struct Likely {
  int64_t count = 0;  ///< how many of the highest, or all if there are fewer; 0: by their share
  /// The highest ones until the sum of their probabilities passes it: one is kept if those before
  /// it have at most this sum. From 1 on all are.
  double share = 1;
};

/// The logits [..., vocab] that are kept, -infinity in place of the others. On CUDA a kernel of
/// ours for float32, which keeps the first of equal logits at the edge; elsewhere any of them are
/// kept. Reads nothing from a device, and has no gradient there.
at::Tensor keep_likely(const at::Tensor& logits, const Likely& likely);

/// As keep_likely, by the engine of this name. Throws InputError with the reasons where it cannot
/// run.
at::Tensor keep_likely_on(const std::string& engine, const at::Tensor& logits,
                          const Likely& likely);
/// The engines of keep_likely in order of preference, each with its reasons against.
std::vector<EngineReport> explain_keep_likely(const at::Tensor& logits, const Likely& likely);

}  // namespace x_transformers
