#include "x_transformers/ops/cuda_launchers.h"

#include "x_transformers/core/plugin.h"

namespace x_transformers {
namespace {

OurCudaKernels find_kernels() {
  const auto symbol = cuda_plugin_symbol(kernels::kCudaLaunchers);
  if (!symbol.address) return {nullptr, symbol.reason};
  const auto* table = reinterpret_cast<kernels::GetCudaLaunchers>(symbol.address)();
  if (table->layout != kernels::CudaLaunchers().layout)
    return {nullptr, {{}, "libx_transformers_cuda.so is of another version"}};
  return {table, {}};
}

}  // namespace

const OurCudaKernels& our_cuda_kernels() {
  static const auto found = find_kernels();
  return found;
}

}  // namespace x_transformers
