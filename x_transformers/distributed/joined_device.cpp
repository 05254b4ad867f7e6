#include "x_transformers/distributed/joined_device.h"

#include <c10/util/Exception.h>

#include <chrono>
#include <map>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

constexpr auto kWatchInterval = std::chrono::milliseconds(100);
constexpr const char* kBetweenDevices = "the way between the devices of the ranks has failed";

}  // namespace

JoinedDevice::JoinedDevice(std::unique_ptr<DeviceSums> sums, const c10::Device& device,
                           const RankMonitor& monitor)
    : sums_(std::move(sums)), device_(device), monitor_(monitor) {
  thread_ = std::thread([this] { watch(); });
}

JoinedDevice::~JoinedDevice() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void JoinedDevice::watch() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kWatchInterval, [this] { return is_over_; })) {
    auto error = sums_->error();
    if (error.empty() && !monitor_.has_failed()) continue;
    error_ = std::move(error);
    lock.unlock();
    sums_->abort();
    return;
  }
}

void JoinedDevice::check() const {
  monitor_.check();
  std::string error;
  {
    const std::lock_guard lock(mutex_);
    error = error_;
  }
  if (error.empty()) return;
  // A rank that is gone takes its connections with it, and is the reason that is worth telling.
  monitor_.wait_for_failure(kReasonSeconds);
  throw RunError(caused({}, kBetweenDevices, error));
}

template <class Start>
StartedSum JoinedDevice::start(Start start) const {
  check();
  try {
    return start();
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    monitor_.wait_for_failure(kReasonSeconds);
    throw RunError(caused({}, kBetweenDevices, cause_of(error)));
  }
}

StartedSum JoinedDevice::start_sum(const std::vector<at::Tensor>& tensors) {
  return start([&] { return sums_->start_sum(tensors); });
}

StartedSum JoinedDevice::start_giving(const std::vector<at::Tensor>& tensors,
                                      const std::vector<int64_t>& owners) {
  return start([&] { return sums_->start_giving(tensors, owners); });
}

void JoinedDevice::finish() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  sums_->finish();
}

void require_own_devices(const std::vector<std::string>& identities, const Meeting& meeting,
                         const OptionPath& option) {
  std::map<std::string, size_t> owners;
  for (size_t rank = 0; rank < identities.size(); ++rank) {
    const auto [other, is_own] = owners.emplace(identities[rank], rank);
    require(is_own, at(option),
            "each rank needs a GPU of its own, and {} and {} have the same (LOCAL_RANK says which "
            "of those that are seen a process takes)",
            meeting.ranks[other->second].name(), meeting.ranks[rank].name());
  }
}

}  // namespace x_transformers
