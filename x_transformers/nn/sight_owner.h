// What models and stacks know of what the attentions within them see.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/notice.h"

namespace x_transformers {

class AttendUser;

/// A module that knows more of what tokens see by the attentions within it than these do.
class SightOwner {
 public:
  virtual ~SightOwner() = default;
  /// What tokens see by `attention`, in words, in place of "causal" or "not causal"; empty: its own
  /// options say it.
  virtual Text sight_of(const AttendUser& /*attention*/) const { return {}; }
  /// Memory tokens in front of each sequence.
  virtual int64_t memory_tokens() const { return 0; }
  /// Tokens of earlier calls that are kept as memories; empty: all.
  virtual std::optional<int64_t> kept_mems() const { return std::nullopt; }
};

}  // namespace x_transformers
