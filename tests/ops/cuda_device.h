// Tests on a CUDA device: skipped, saying why, where there is none.
#pragma once

#include <filesystem>
#include <string>

#include "x_transformers/core/device.h"

namespace x_transformers {

/// Why nothing runs on CUDA here; empty: it does. LibTorch must be asked before any test draws
/// random numbers, and only where there is a driver, as loading its CUDA half takes seconds.
inline const std::string& no_cuda() {
  static const std::string reason = std::filesystem::exists("/dev/nvidiactl")
                                        ? cuda_unsupported().line()
                                        : std::string("there is no CUDA driver");
  return reason;
}

inline const bool kAskedForCuda = no_cuda().empty();

}  // namespace x_transformers
