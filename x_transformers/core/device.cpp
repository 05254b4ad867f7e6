#include "x_transformers/core/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include "x_transformers/core/error.h"

namespace x_transformers {

std::string cuda_refusal() {
  // Registering the CUDA backend is a matter of loading its library. LibTorch asks for its hooks
  // once and for good, so nothing here may ask before.
  static const std::string load_error = [] {
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) return std::string();
    const char* reason = dlerror();
    return std::string("LibTorch's CUDA half cannot be loaded: ") +
           (reason ? reason : "unknown reason");
  }();
  if (!load_error.empty()) return load_error;
  if (!at::globalContext().hasCUDA())
    return "LibTorch was asked for CUDA before its CUDA half was loaded, or sees no device";
  if (at::detail::getCUDAHooks().deviceCount() == 0) return "no CUDA device is visible";
  return {};
}

c10::Device open_device(const std::string& name) {
  c10::Device device(c10::kCPU);
  try {
    device = c10::Device(name);
  } catch (const c10::Error&) {
    throw InputError("device: expected cpu, cuda or cuda:N, got '" + name + "'");
  }
  require(device.is_cpu() || device.is_cuda(),
          "device: expected cpu, cuda or cuda:N, got '" + name + "'");
  if (device.is_cpu()) return device;
  const auto refusal = cuda_refusal();
  require(refusal.empty(), "device: " + name + " cannot be used: " + refusal);
  const auto count = at::detail::getCUDAHooks().deviceCount();
  require(device.index() < count,
          "device: " + name + " does not exist, there are " + std::to_string(count));
  return device.has_index() ? device : c10::Device(c10::kCUDA, 0);
}

}  // namespace x_transformers
