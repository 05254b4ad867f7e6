// Files of training data: finding them.
#pragma once

#include <string>
#include <vector>

#include "x_transformers/io/file_extent.h"

namespace x_transformers {

/// The files that `path` stands for: itself, or all regular files in the folder and the folders in
/// it, in the order of their paths; names that start with a dot are passed over. Throws InputError
/// when `path` is missing or neither, and when the folder holds no file.
std::vector<std::string> list_files(const std::string& path);

/// How much these files hold.
FileExtent extent_of(const std::string& path);

}  // namespace x_transformers
