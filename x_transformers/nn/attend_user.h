// What runs an Attend, as reports of engines and caches see it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "x_transformers/nn/attend.h"

namespace x_transformers {

/// What an Attend gives to its engine, to be kept: it holds what the engine's AttendCall
/// (ops/attend_engine.h) refers to.
struct KeptAttendCall {
  at::Tensor q, k, v;
  ScoreProgram program;
  bool keep_maps = false;
};

/// Keys that stand in front of those of its tokens, whatever is given.
struct FrontKeys {
  int64_t count = 0;
  bool has_zero = false;  ///< the first is zero
};

/// A module that runs an Attend.
class AttendUser {
 public:
  virtual ~AttendUser() = default;
  virtual Attend& attend_module() const = 0;
  virtual bool is_causal() const = 0;
  /// What bounds or widens what each token sees, in words: ", 128 tokens back at most".
  virtual std::string sight_limits() const { return {}; }
  virtual FrontKeys front_keys() const { return {}; }
  /// Why it cannot be decoded with a cache; empty: it can.
  virtual Text decoding_unsupported() const = 0;
  /// Features of one token that a cache keeps, keys and values together.
  virtual int64_t cached_features() const = 0;
  /// A call with one sequence of `tokens` tokens.
  virtual KeptAttendCall usual_call(int64_t tokens) const = 0;
};

}  // namespace x_transformers
