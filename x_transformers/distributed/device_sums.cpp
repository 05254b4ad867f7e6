#include "x_transformers/distributed/device_sums.h"

#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/plugin.h"
#include "x_transformers/core/reason.h"

namespace x_transformers {
namespace {

struct FoundJoining {
  const DeviceJoining* joining = nullptr;
  Notice reason;
};

FoundJoining find_nccl() {
  if (auto reason = cuda_unsupported(); !is_empty(reason)) return {nullptr, std::move(reason)};
  const auto symbol = cuda_plugin_symbol(kNcclJoining);
  if (symbol.address == nullptr) return {nullptr, symbol.reason};
  const auto* joining = reinterpret_cast<GetDeviceJoining>(symbol.address)();
  if (joining->layout != sizeof(DeviceJoining))
    return {nullptr, {{}, "libx_transformers_cuda.so is of another version"}};
  return {joining, {{}, joining->unsupported()}};
}

}  // namespace

Notice nccl_unsupported() { return find_nccl().reason; }

const DeviceJoining& nccl_joining(const OptionPath& option) {
  const auto found = find_nccl();
  if (!is_empty(found.reason))
    throw InputError(because(at(option), "GPUs cannot be joined", found.reason));
  return *found.joining;
}

}  // namespace x_transformers
