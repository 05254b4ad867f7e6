// The processes that train one model together, as one of them sees them.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/distributed/rank_environment.h"
#include "x_transformers/distributed/rank_monitor.h"

namespace x_transformers {

/// Joins this process with the others, and moves numbers between them: by MPI where mpirun started
/// them, else by TCP connections. Every rank makes the same calls in the same order.
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

  /// Replaces each of `tensors`, on the CPU, by its sum over all ranks (SumOverRanks).
  void sum(const std::vector<at::Tensor>& tensors);
  /// The same, begun: what it returns waits for its end. The tensors are left alone until then.
  StartedSum start_sum(const std::vector<at::Tensor>& tensors);
  /// Whether `holds` on any rank.
  bool any(bool holds);

  /// The end of all ranks together.
  void leave();
  /// Tells the others that this rank ends, and why. Returns whether to show the reason: else rank 0
  /// does.
  bool report(const Notice& notice, bool is_input_error);
  /// Whether the process must end without the destructor, which might wait for ever.
  bool may_be_stuck() const;

 private:
  class Impl;
  class Thread;
  struct Row;
  std::unique_ptr<Impl> impl_;
};

}  // namespace x_transformers
