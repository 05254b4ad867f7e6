// The states of the random number generators that operations draw from.
#pragma once

#include <ATen/core/Tensor.h>

namespace x_transformers {

/// The state of the default generator of `device`, as bytes.
at::Tensor generator_state(const at::Device& device);
void set_generator_state(const at::Device& device, const at::Tensor& state);

/// The states of the CPU's generator and, where `device` is another one, of that too.
class RandomStates {
 public:
  explicit RandomStates(const at::Device& device);
  /// Brings the states back.
  void restore() const;

 private:
  at::Device device_;
  at::Tensor cpu_, other_;
};

/// Puts the random states back at its end, so that what runs within leaves those outside as they
/// would have been without.
class RandomStateGuard {
 public:
  explicit RandomStateGuard(const at::Device& device) : states_(device) {}
  ~RandomStateGuard() { states_.restore(); }
  RandomStateGuard(const RandomStateGuard&) = delete;
  RandomStateGuard& operator=(const RandomStateGuard&) = delete;

 private:
  RandomStates states_;
};

}  // namespace x_transformers
