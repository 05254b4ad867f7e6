#include "x_transformers/core/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <new>
#include <typeinfo>
#include <utility>

#include "x_transformers/core/error.h"

namespace x_transformers {

std::string cuda_unsupported() {
  // Registering the CUDA backend is a matter of loading its library. LibTorch asks for its hooks
  // once and for good, so nothing here may ask before.
  static const std::string load_error = [] {
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) return std::string();
    const char* reason = dlerror();
    return std::string("LibTorch's CUDA half cannot be loaded: ") +
           (reason ? reason : "unknown reason");
  }();
  if (!load_error.empty()) return load_error;
  if (!dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL))
    return "no NVIDIA driver is installed (libcuda.so.1), without which no GPU is seen";
  const auto& hooks = at::detail::getCUDAHooks();
  if (typeid(hooks) == typeid(at::CUDAHooksInterface))
    return "LibTorch was asked for CUDA before its CUDA half was loaded";
  return hooks.deviceCount() > 0 ? "" : "no CUDA device is visible";
}

std::optional<std::string> out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error)) return "the system gives no more";
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  if (!torch_error) return std::nullopt;
  std::string text = torch_error->what_without_backtrace();
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error)) return text.substr(0, text.find('\n'));
  // Sizes whose product 64 bits do not hold: "Storage size calculation overflowed with sizes=[...]"
  // or "numel: integer multiplication overflow".
  if (text.find("size calculation overflow") != std::string::npos ||
      text.find("integer multiplication overflow") != std::string::npos)
    return "a tensor of more bytes than 64 bits count";
  // LibTorch's CPU allocator has no type of its own: "[enforce fail at alloc_cpu.cpp:127] err == 0.
  // DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. ..."
  const auto allocator = text.find("DefaultCPUAllocator: ");
  if (allocator == std::string::npos) return std::nullopt;
  const auto tried = text.find("you tried to allocate ", allocator);
  if (tried == std::string::npos) return "the system gives no more";
  return text.substr(tried, text.find_first_of(".\n", tried) - tried);
}

c10::Device open_device(const std::string& name, const OptionPath& option) {
  c10::Device device(c10::kCPU);
  bool is_known = true;
  try {
    device = c10::Device(name);
  } catch (const c10::Error&) {
    is_known = false;
  }
  expect(is_known && (device.is_cpu() || device.is_cuda()), at(option), name,
         "cpu, cuda or cuda:N");
  if (device.is_cpu()) return device;
  const auto reason = cuda_unsupported();
  if (!reason.empty()) {
    Notice notice{at(option), text("{} cannot be used", name)};
    notice.cause = reason;
    throw InputError(std::move(notice));
  }
  const auto count = at::detail::getCUDAHooks().deviceCount();
  require(device.index() < count, at(option), "{} does not exist, there are {}", name, count);
  return device.has_index() ? device : c10::Device(c10::kCUDA, 0);
}

}  // namespace x_transformers
