// libx_transformers_cuda.so: what needs CUDA headers, such as graphs and kernels, in a library of
// its own (-DXT_CUDA=ON) that is loaded when it is asked for.
#pragma once

#include <string>
#include <vector>

namespace x_transformers {

/// What the library exports under `name`, or why it is not available.
struct CudaPluginSymbol {
  void* address = nullptr;
  std::string reason;  ///< empty: there is an address
};

/// Loads the library at the first call. LibTorch's CUDA half must be loaded before
/// (cuda_unsupported).
CudaPluginSymbol cuda_plugin_symbol(const char* name);

/// Where the library is looked for: beside the program or shared library that holds this code, one
/// folder up and in ../lib, then where the system looks (which the program's own run path is part
/// of).
std::vector<std::string> cuda_plugin_paths();

}  // namespace x_transformers
