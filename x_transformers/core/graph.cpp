#include "x_transformers/core/graph.h"

#include <c10/util/Exception.h>

#include <atomic>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/plugin.h"
#include "x_transformers/core/reason.h"

namespace x_transformers {
namespace {

std::atomic<int> captures{0};

/// Counts a capture for as long as it lives.
struct Capturing {
  Capturing() { ++captures; }
  ~Capturing() { --captures; }
  Capturing(const Capturing&) = delete;
  Capturing& operator=(const Capturing&) = delete;
};

class RepeatedWork : public DeviceGraph {
 public:
  explicit RepeatedWork(std::function<void()> work) : work_(std::move(work)) {}
  void replay() override { work_(); }

 private:
  std::function<void()> work_;
};

}  // namespace

Notice graph_unsupported() {
  if (auto reason = cuda_unsupported(); !is_empty(reason)) return reason;
  return cuda_plugin_symbol(kCaptureCudaGraph).reason;
}

bool is_capturing() { return captures > 0; }

std::unique_ptr<DeviceGraph> capture_graph(const c10::Device& device,
                                           const std::function<void()>& work,
                                           const GraphOptions& options) {
  if (device.is_cpu()) {
    for (int i = 0; i < options.warm_up; ++i) work();
    return std::make_unique<RepeatedWork>(work);
  }
  require(device.is_cuda(), at("capture_graph"), "expected a cpu or cuda device, got {}",
          device.str());
  const auto reason = graph_unsupported();
  if (!is_empty(reason)) throw InputError(because(at("capture_graph"), {}, reason));
  const auto capture =
      reinterpret_cast<CaptureCudaGraph>(cuda_plugin_symbol(kCaptureCudaGraph).address);
  const Capturing at_work;
  try {
    return std::unique_ptr<DeviceGraph>(capture(device, work, options));
  } catch (const c10::OutOfMemoryError&) {
    throw;  // its own remedies
  } catch (const c10::Error& error) {
    throw RunError(caused({}, "the work cannot be captured in a CUDA graph", cause_of(error)));
  }
}

}  // namespace x_transformers
