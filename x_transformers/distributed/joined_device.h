// This rank's device among those of the other ranks, watched over as long as it may wait for them.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/distributed/device_sums.h"
#include "x_transformers/distributed/rank_monitor.h"

namespace x_transformers {

/// Sums on the device until the run fails. A thread of its own sees that it has, and gives up what
/// is on the way: a host that waits for its device, where a sum waits for a rank that is gone, then
/// goes on, and learns of the failure with its next call.
class JoinedDevice {
 public:
  /// `monitor` must outlive this.
  JoinedDevice(std::unique_ptr<DeviceSums> sums, const c10::Device& device,
               const RankMonitor& monitor);
  ~JoinedDevice();
  JoinedDevice(const JoinedDevice&) = delete;
  JoinedDevice& operator=(const JoinedDevice&) = delete;

  const c10::Device& device() const { return device_; }
  /// DeviceSums::start_sum. Throws OtherRankFailed, and RunError where the way between the devices
  /// has failed.
  StartedSum start_sum(const std::vector<at::Tensor>& tensors);
  /// DeviceSums::start_giving. Throws the same.
  StartedSum start_giving(const std::vector<at::Tensor>& tensors,
                          const std::vector<int64_t>& owners);
  /// Throws what start_sum would.
  void check() const;
  /// The end that every rank comes to.
  void finish();

 private:
  template <class Start>
  StartedSum start(Start start) const;
  void watch();

  std::unique_ptr<DeviceSums> sums_;
  c10::Device device_;
  const RankMonitor& monitor_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string error_;  // guarded, as those below
  bool is_over_ = false;
  std::thread thread_;
};

/// Throws InputError of `option` where two ranks have the same device: `identities`, one of each
/// rank, tell them apart.
void require_own_devices(const std::vector<std::string>& identities, const Meeting& meeting,
                         const OptionPath& option);

}  // namespace x_transformers
