// The GPUs that runs side by side have.
#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

namespace x_transformers {

/// Gives each run one GPU: that with the fewest runs, the first of several such. For several
/// threads.
class GpuShares {
 public:
  /// `count` GPUs are seen. `visible` is CUDA_VISIBLE_DEVICES, which names them; null or empty:
  /// they are 0, 1, ...
  GpuShares(size_t count, const char* visible);

  /// One run's GPU, for as long as it lives.
  class Share {
   public:
    explicit Share(GpuShares& gpus);
    ~Share();
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    /// CUDA_VISIBLE_DEVICES of a process that sees this GPU alone.
    const std::string& visible() const { return gpus_.names_[at_]; }

   private:
    GpuShares& gpus_;
    size_t at_;
  };

 private:
  std::mutex mutex_;
  std::vector<std::string> names_;
  std::vector<int> runs_;  ///< of each GPU
};

}  // namespace x_transformers
