// Work captured once and launched as a whole: CUDA graphs. The CUDA side is a library of its own,
// which is loaded when it is asked for.
#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Captured work. It reads and writes the memory that it read and wrote when captured.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// Runs the work once more, in the order of the current stream; does not wait for it.
  virtual void replay() = 0;
};

/// Why work on CUDA cannot be captured here; empty: it can. Loads libx_transformers_cuda.so
/// (core/plugin.h).
Notice graph_unsupported();

struct GraphOptions {
  int warm_up = 3;  ///< times that the work is run before
  /// Gives back what earlier work has left unused, for the graph takes memory of its own. That
  /// costs milliseconds.
  bool frees_memory = true;
  /// Its random numbers go on from replay to replay, as those of the default generator do.
  std::optional<at::Generator> generator = std::nullopt;
};

/// Runs `work` `warm_up` times on a stream of its own, then captures it, which runs nothing: each
/// replay does. What `work` does on the host is done when it is captured and not by a replay. It
/// must not read from the device, nor allocate what must outlive the graph's memory. On the CPU a
/// replay calls `work` again. Throws InputError where graph_unsupported() has a reason, RunError
/// where `work` cannot be captured.
std::unique_ptr<DeviceGraph> capture_graph(const c10::Device& device,
                                           const std::function<void()>& work,
                                           const GraphOptions& options = {});

/// Whether capture_graph is at work, on whichever thread, on a device that has graphs.
bool is_capturing();

/// What libx_transformers_cuda.so exports, under the name kCaptureCudaGraph.
using CaptureCudaGraph = DeviceGraph* (*)(const c10::Device& device,
                                          const std::function<void()>& work,
                                          const GraphOptions& options);
inline constexpr const char* kCaptureCudaGraph = "x_transformers_capture_cuda_graph";

}  // namespace x_transformers
