#include "apps/x-transformers/gpu_shares.h"

#include <algorithm>
#include <sstream>

namespace x_transformers {

GpuShares::GpuShares(size_t count, const char* visible) : runs_(count) {
  std::istringstream given(visible == nullptr ? "" : visible);
  for (std::string name; names_.size() < count && std::getline(given, name, ',');)
    names_.push_back(name);
  while (names_.size() < count) names_.push_back(std::to_string(names_.size()));
}

GpuShares::Share::Share(GpuShares& gpus) : gpus_(gpus) {
  const std::lock_guard lock(gpus_.mutex_);
  auto& runs = gpus_.runs_;
  const auto least = std::min_element(runs.begin(), runs.end());
  ++*least;
  at_ = static_cast<size_t>(least - runs.begin());
}

GpuShares::Share::~Share() {
  const std::lock_guard lock(gpus_.mutex_);
  --gpus_.runs_[at_];
}

}  // namespace x_transformers
