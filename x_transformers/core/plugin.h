// Libraries of ours that are loaded when they are asked for, because they need what few machines
// have: libx_transformers_cuda.so (graphs and kernels of CUDA, -DXT_CUDA=ON) and
// libx_transformers_mpi.so (processes joined by MPI, built where MPI is found).
#pragma once

#include <string>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Where a library `libx_transformers_NAME.so` is looked for: beside the program or shared library
/// that holds this code, one folder up and in ../lib, then where the system looks (which the
/// program's own run path is part of).
std::vector<std::string> plugin_paths(const std::string& name);

/// What a library exports under a name, or why it is not available.
struct PluginSymbol {
  void* address = nullptr;
  Notice reason = {};  ///< is_empty: there is an address
};

/// Loads the CUDA library at the first call. LibTorch's CUDA half must be loaded before
/// (cuda_unsupported).
PluginSymbol cuda_plugin_symbol(const char* name);

/// Loads the MPI library at the first call.
PluginSymbol mpi_plugin_symbol(const char* name);

}  // namespace x_transformers
