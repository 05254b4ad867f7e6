// What QK-clip asks of an attention (arXiv:2507.20534).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/nn/attend_user.h"

namespace x_transformers {

/// A weight whose rows are to be multiplied by `scale` [rows, 1].
struct ScaledRows {
  at::Tensor weight, scale;
};

/// An attention that makes its scores of projected queries and keys, whose weights can be scaled.
class ClippableAttention : public AttendUser {
 public:
  /// Heads that have scores.
  virtual int64_t score_heads() const = 0;
  /// What multiplies which weights so that the scores of each head stay within `tau`, from the
  /// largest score of each, [h]. Reads nothing from the device.
  virtual std::vector<ScaledRows> qk_clip_scales(const at::Tensor& score_maxes,
                                                 double tau) const = 0;
  /// Why the scores cannot be clipped so; empty: they can.
  virtual Text qk_clip_unsupported() const = 0;
};

}  // namespace x_transformers
