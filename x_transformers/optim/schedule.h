// The learning rate over a run: pure functions of the step.
#pragma once

#include <cstdint>
#include <string>

namespace x_transformers {

enum class ScheduleShape { kConstant, kCosine, kLinear, kInverseSqrt, kWsd };

/// "constant", "cosine" (arXiv:1608.03983, without restarts), "linear", "inverse_sqrt"
/// (arXiv:1706.03762) or "wsd" (warm-up, stable, decay: arXiv:2404.06395). Throws InputError for
/// any other name.
ScheduleShape schedule_shape(const std::string& name);

/// A linear warm-up to the peak, then:
/// - cosine and linear: a descent to `min_ratio` of the peak that ends with the last step;
/// - wsd: the peak, and over the last `decay_steps` a linear descent to `min_ratio`;
/// - inverse_sqrt: sqrt(warmup_steps / step), but no less than `min_ratio`, so that it does not
///   depend on the length of the run (without a warm-up, from step 1);
/// - constant: the peak.
struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  int64_t steps = 1;         ///< of the whole run
  int64_t warmup_steps = 0;  ///< step `warmup_steps` is the first at the peak
  double min_ratio = 0.1;    ///< last learning rate / peak; unused by the constant shape
  int64_t decay_steps = 0;   ///< of wsd: steps of the descent

  /// The share of the peak learning rate, in (0, 1], at `step`, counted from 1. Beyond the last
  /// step it stays.
  double ratio(int64_t step) const;
};

}  // namespace x_transformers
