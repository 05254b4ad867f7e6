// The learning rate over a run: pure functions of the step.
#pragma once

#include <cstdint>
#include <string>

namespace x_transformers {

enum class ScheduleShape { kConstant, kCosine, kLinear };

/// "constant", "cosine" (arXiv:1608.03983, without restarts) or "linear". Throws InputError for any
/// other name.
ScheduleShape schedule_shape(const std::string& name);

/// A linear warm-up to the peak, then a descent to `min_ratio` of the peak that ends with the last
/// step.
struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  int64_t steps = 1;         ///< of the whole run
  int64_t warmup_steps = 0;  ///< step `warmup_steps` is the first at the peak
  double min_ratio = 0.1;    ///< last learning rate / peak; unused by the constant shape

  /// The share of the peak learning rate, in (0, 1], at `step`, counted from 1. Beyond the last
  /// step it stays.
  double ratio(int64_t step) const;
};

}  // namespace x_transformers
