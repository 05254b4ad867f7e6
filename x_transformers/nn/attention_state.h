// What attention keeps of earlier tokens.
#pragma once

#include <cstdint>

#include "x_transformers/nn/block_state.h"

namespace x_transformers {

/// Keys and values, and what some options need besides.
class AttentionState : public KeyValueCache {
 public:
  void reorder(const at::Tensor& entries) override;
  void fix(const StaticPlace& place) override;
  void release(int64_t length) override;
  void append_given(const GivenState& given) override;
  /// Room for `capacity` tokens at once, to be set before the first token.
  void reserve(int64_t capacity);

  TokenBuffer gates;  ///< of data-dependent ALiBi: sums of forget gates, or what they are made of;
                      ///< no memories
  TokenBuffer hybrid_inputs;  ///< what a hybrid module has been given
  at::Tensor hybrid_hidden;   ///< in its place, in a cache from outside: the module's last state
};

}  // namespace x_transformers
