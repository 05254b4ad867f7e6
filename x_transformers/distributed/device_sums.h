// What moves numbers between the devices of a run's ranks: NCCL between GPUs, which
// libx_transformers_cuda.so calls. The rest needs no header of CUDA or NCCL.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/core/world_place.h"

namespace x_transformers {

/// The devices of all ranks, as one of them is joined with the others. Every rank begins the same
/// sums in the same order. What fails throws c10::Error.
class DeviceSums {
 public:
  virtual ~DeviceSums() = default;
  /// A StartSumOverRanks of tensors on this rank's device, which begins when the current stream
  /// comes to it. What it returns has the stream that is current by then wait for the sum; the host
  /// does not wait. Both can be captured in a CUDA graph, where all ranks capture them and launch
  /// their graphs together.
  virtual StartedSum start_sum(const std::vector<at::Tensor>& tensors) = 0;
  /// A StartGivingToRanks in the same way.
  virtual StartedSum start_giving(const std::vector<at::Tensor>& tensors,
                                  const std::vector<int64_t>& owners) = 0;
  /// What has gone wrong on the way; empty: nothing. For any thread.
  virtual std::string error() = 0;
  /// Gives up what is on the way, on the device too, so that nothing waits for other ranks any
  /// more; what is begun later throws. For any thread. It may wait for the end of graphs that hold
  /// sums.
  virtual void abort() = 0;
  /// The end that every rank comes to, after that of graphs that hold sums.
  virtual void finish() = 0;
};

/// A way to join devices, as plain functions: what a library gives that knows how.
struct DeviceJoining {
  /// The version of this struct. Where it is another, library and program do not fit.
  int64_t layout = sizeof(DeviceJoining);
  /// Why it cannot be had here; empty: it can.
  std::string (*unsupported)() = nullptr;
  /// Bytes that tell this device from all others in the world; of every device as many.
  std::string (*identity)(const c10::Device& device) = nullptr;
  /// Bytes by which the ranks of one run find each other, which rank 0 makes: kKeyBytes.
  std::string (*make_key)() = nullptr;
  /// Waits for all ranks. The caller owns what it returns.
  DeviceSums* (*join)(const c10::Device& device, const WorldPlace& place,
                      const std::string& key) = nullptr;

  static constexpr int64_t kKeyBytes = 128;
};

/// Why GPUs cannot be joined here; empty: they can. Loads LibTorch's CUDA half and
/// libx_transformers_cuda.so.
Notice nccl_unsupported();
/// NCCL. Throws InputError of `option` where nccl_unsupported has a reason.
const DeviceJoining& nccl_joining(const OptionPath& option = "device");

/// What libx_transformers_cuda.so exports, under the name kNcclJoining.
using GetDeviceJoining = const DeviceJoining* (*)();
inline constexpr const char* kNcclJoining = "x_transformers_nccl_joining";

}  // namespace x_transformers
