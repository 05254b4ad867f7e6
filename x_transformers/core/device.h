// Devices by name. The CUDA half of LibTorch is loaded only when a CUDA device is asked for.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// "cpu", "cuda" or "cuda:N". InputError of `option`, saying why, where there is no such device.
/// The first call for a CUDA device must come before anything else that asks LibTorch for CUDA,
/// such as at::manual_seed.
c10::Device open_device(const std::string& name, const OptionPath& option = "device");

/// Why CUDA cannot be used here; empty: it can. Loads LibTorch's CUDA half.
std::string cuda_unsupported();

}  // namespace x_transformers
