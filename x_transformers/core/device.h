// Devices by name. The CUDA half of LibTorch is loaded only when a CUDA device is asked for.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace x_transformers {

/// "cpu", "cuda" or "cuda:N". InputError, saying why, where there is no such device. The first call
/// for a CUDA device must come before anything else that asks LibTorch for CUDA, such as
/// at::manual_seed.
c10::Device open_device(const std::string& name);

/// Why CUDA cannot be used here; empty: it can. Loads LibTorch's CUDA half.
std::string cuda_refusal();

}  // namespace x_transformers
