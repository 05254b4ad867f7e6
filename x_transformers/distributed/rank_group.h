// The processes that train one model together, as one of them sees them.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/core/world_place.h"
#include "x_transformers/distributed/device_sums.h"
#include "x_transformers/distributed/rank_environment.h"
#include "x_transformers/distributed/rank_monitor.h"

namespace x_transformers {

/// Joins this process with the others, and moves numbers between them: by MPI where mpirun started
/// them, else by TCP connections, and between GPUs by NCCL, once they are joined. Every rank makes
/// the same calls in the same order.
///
/// A call that waits for the others throws OtherRankFailed where one of them has died, hangs or has
/// failed, and then the group is of no more use.
class RankGroup {
 public:
  /// Waits up to two minutes for all others. Throws RunError that says who is missing.
  RankGroup(const RankEnvironment& environment, MonitorOptions options);
  /// Without `leave`, the others take this rank for lost.
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  const WorldPlace& place() const;
  /// "rank 1 on node7", of each rank.
  std::vector<std::string> names() const;

  /// From now on sums up tensors on `device` too, this rank's GPU, in the order of its streams and
  /// without a wait of the host. Throws InputError of `option`: GPUs cannot be joined here, or two
  /// ranks have the same.
  void join_devices(const c10::Device& device, const OptionPath& option = "device");
  /// The same by another way than NCCL.
  void join_devices(const DeviceJoining& joining, const c10::Device& device,
                    const OptionPath& option = "device");

  /// Replaces each of `tensors`, all on the CPU or all on the joined device, by its sum over all
  /// ranks (SumOverRanks).
  void sum(const std::vector<at::Tensor>& tensors);
  /// The same, begun: what it returns waits for its end. The tensors are left alone until then.
  StartedSum start_sum(const std::vector<at::Tensor>& tensors);
  /// Begins to replace each of `tensors` by that of its owner (StartGivingToRanks).
  StartedSum start_giving(const std::vector<at::Tensor>& tensors,
                          const std::vector<int64_t>& owners);
  /// The largest of a number over all ranks (MostOverRanks).
  int64_t most(int64_t own);
  /// Whether `holds` on any rank.
  bool any(bool holds) { return most(holds ? 1 : 0) > 0; }

  /// The end of all ranks together. Graphs that hold sums must be gone by then.
  void leave();
  /// Throws OtherRankFailed where the run has failed already.
  void check() const;
  /// Tells the others that this rank ends, and why. Returns whether to show the reason: else rank 0
  /// does.
  bool report(const Notice& notice, bool is_input_error);
  /// Whether the process must end without the destructor, which might wait for ever.
  bool may_be_stuck() const;

 private:
  class Impl;
  class Thread;
  struct Row;
  struct Parcel;
  std::unique_ptr<Impl> impl_;
};

}  // namespace x_transformers
