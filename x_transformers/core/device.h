// Devices by name. The CUDA half of LibTorch is loaded only when a CUDA device is asked for.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// "cpu", "cuda" (choose_cuda_device) or "cuda:N". InputError of `option`, saying why, where there
/// is no such device. The first call for a CUDA device must come before anything else that asks
/// LibTorch for CUDA, such as at::manual_seed.
c10::Device open_device(const std::string& name, const OptionPath& option = "device");

/// Which GPU `cuda` is from now on in this process, and what this thread makes on CUDA without a
/// number: GPU `index` of those that are seen, or the only one. For processes that share a host; it
/// is the first unless this is called. Throws InputError of `option`: there is no such GPU.
void choose_cuda_device(int64_t index, const OptionPath& option = "device");

/// How many GPUs are seen here; 0 where CUDA cannot be used.
int64_t cuda_device_count();

/// Why CUDA cannot be used here; is_empty (core/reason.h): it can. Loads LibTorch's CUDA half.
Notice cuda_unsupported();

}  // namespace x_transformers
