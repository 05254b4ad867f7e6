// PNG and JPEG files as tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace x_transformers {

/// The file's pixels [channels, height, width] float32 from 0 to 1, as they are stored: no profile
/// or gamma is applied. Throws InputError naming the file: no PNG or JPEG, damaged, 16 bits a
/// channel, transparent, or of another number of channels than `channels` (1: grey, 3: color).
at::Tensor read_image(const std::string& path, int64_t channels);

}  // namespace x_transformers
