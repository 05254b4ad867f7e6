// Weight files of Python's torch.save.
#pragma once

#include <filesystem>

#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Reads a state_dict that torch.save wrote (the zip format of torch 1.6 and later) onto the CPU.
///
/// The file holds a dict of tensors by name, or a dict in which exactly one value is such a dict (a
/// checkpoint with "model" or "state_dict" beside plain numbers and strings). Strides and shared
/// storages are kept: tied weights share memory. Nothing of the file is run: its pickle may build
/// dicts, lists, tuples, numbers, strings and tensors, and whatever else it names is an InputError
/// that says so, as is every damage.
TensorMap load_pt(const std::filesystem::path& path);

}  // namespace x_transformers
