// Capturing with LibTorch's CUDAGraph: what core/graph.h loads.
#include "x_transformers/core/graph.h"

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>

#include "x_transformers/cuda/streams.h"

namespace x_transformers {
namespace {

class CudaGraph : public DeviceGraph {
 public:
  explicit CudaGraph(const c10::Device& device) : device_(device) {}

  void capture(const std::function<void()>& work, const GraphOptions& options) {
    const c10::cuda::CUDAGuard on_device(device_);
    const auto caller = c10::cuda::getCurrentCUDAStream();
    const auto side = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device_.index());
    follow(caller, side);
    {
      const c10::cuda::CUDAStreamGuard on_side(side);
      for (int i = 0; i < options.warm_up; ++i) work();
      if (options.frees_memory) {
        // cuBLAS's workspaces of other streams are among it, 32 MiB for each thread on Hopper.
        at::cuda::clearCublasWorkspaces();
        c10::cuda::CUDACachingAllocator::emptyCache();
      }
      if (options.generator) graph_.register_generator_state(*options.generator);
      record(work);
    }
    follow(side, caller);
  }

  void replay() override {
    const c10::cuda::CUDAGuard on_device(device_);
    graph_.replay();
  }

 private:
  void record(const std::function<void()>& work) {
    // Backward runs on threads of autograd's, and other threads may allocate: only this one is
    // watched.
    graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      end_failed_capture();
      throw;
    }
    graph_.capture_end();
  }

  /// Takes the stream out of capture mode; that the graph is no good is known.
  void end_failed_capture() {
    try {
      graph_.capture_end();
    } catch (const c10::Error&) {
    }
  }

  c10::Device device_;
  at::cuda::CUDAGraph graph_;
};

}  // namespace
}  // namespace x_transformers

extern "C" __attribute__((visibility("default"))) x_transformers::DeviceGraph*
x_transformers_capture_cuda_graph(const c10::Device& device, const std::function<void()>& work,
                                  const x_transformers::GraphOptions& options) {
  auto graph = std::make_unique<x_transformers::CudaGraph>(device);
  graph->capture(work, options);
  return graph.release();
}
