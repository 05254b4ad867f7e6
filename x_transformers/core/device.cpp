#include "x_transformers/core/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <atomic>
#include <typeinfo>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/reason.h"

namespace x_transformers {
namespace {

/// The GPU that is meant by `cuda`.
std::atomic<c10::DeviceIndex> chosen_cuda_device{0};

/// Why LibTorch's CUDA half cannot be loaded; empty: it is.
const Notice& cuda_load_error() {
  // Registering the CUDA backend is a matter of loading its library. LibTorch asks for its hooks
  // once and for good, so nothing here may ask before.
  static const Notice error = [] {
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) return Notice();
    return caused({}, "LibTorch's CUDA half cannot be loaded", cause_of_loader());
  }();
  return error;
}

void require_cuda(const std::string& name, const OptionPath& option) {
  const auto reason = cuda_unsupported();
  if (is_empty(reason)) return;
  auto notice = because(at(option), text("{} cannot be used", name), reason);
  if (!is_empty(cuda_load_error()))
    notice.hint = "tools/install_deps.sh --cuda adds the libraries that it needs";
  throw InputError(std::move(notice));
}

}  // namespace

Notice cuda_unsupported() {
  if (!is_empty(cuda_load_error())) return cuda_load_error();
  if (!dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL))
    return {{}, "no NVIDIA driver is installed (libcuda.so.1), without which no GPU is seen"};
  const auto& hooks = at::detail::getCUDAHooks();
  if (typeid(hooks) == typeid(at::CUDAHooksInterface))
    return {{}, "LibTorch was asked for CUDA before its CUDA half was loaded"};
  return {{}, hooks.deviceCount() > 0 ? "" : "no CUDA device is visible"};
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
  require_cuda(name, option);
  const auto count = cuda_device_count();
  require(device.index() < count, at(option), "{} does not exist, there are {}", name, count);
  return device.has_index() ? device : c10::Device(c10::kCUDA, chosen_cuda_device);
}

int64_t cuda_device_count() {
  return is_empty(cuda_unsupported()) ? at::detail::getCUDAHooks().deviceCount() : 0;
}

void choose_cuda_device(int64_t index, const OptionPath& option) {
  require_cuda("cuda", option);
  const auto count = cuda_device_count();
  // Some launchers show each process its own GPU alone.
  if (count == 1) index = 0;
  require(index < count, at(option),
          "process {} of this host (LOCAL_RANK, from 0) needs a GPU of its own, and {} are "
          "seen",
          index, count);
  chosen_cuda_device = static_cast<c10::DeviceIndex>(index);
  c10::impl::VirtualGuardImpl(c10::kCUDA).setDevice({c10::kCUDA, chosen_cuda_device});
}

}  // namespace x_transformers
