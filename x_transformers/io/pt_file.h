// Weight files of Python's torch.save.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Reads a state_dict that torch.save wrote onto the CPU: in the zip format of torch 1.6 and later,
/// the one before it, or the tar archive of torch before 0.1.10; pickled by the protocols 2 to 5.
///
/// The file holds a dict of tensors by name, or such dicts within dicts and lists. `key` says which
/// one (choose_tensor_dict); without it there must be one only. A warning says what stands beside
/// it and is passed over. Nothing of the file is run: objects of other classes are passed over too,
/// and what could only be there to run code is an InputError, as is every damage.
///
/// Strides and shared storages are kept: tied weights share memory. Values that torch has flagged
/// as conjugate or negative are made so. Tensors that unfold to far more than the file holds
/// (strides of 0) come with a warning of their size; where that is more than the memory there is,
/// InputError.
TensorMap load_pt(const std::filesystem::path& path, std::string_view key = {});

/// The bytes of a file that show what it is: the first 512, or all. InputError, naming it, where it
/// is missing, no regular file or unreadable.
std::string first_bytes(const std::filesystem::path& path);
/// Whether a file with such first bytes is one of torch.save.
bool starts_pt_file(std::string_view start);

/// The name of the first file in a zip archive with such first bytes, as far as they reach; empty:
/// it is none.
std::string_view first_in_zip(std::string_view start);

}  // namespace x_transformers
