// The states of the random number generators that operations draw from, those of the process.
//
// What leaves no trace (a clone's own weights, a loss that is tried, validation, a block that runs
// again) draws from them too: LibTorch's initialisers and dropout take no generator, so none can be
// handed down to the modules that use them. Here alone their states are set and put back.
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
