#include "x_transformers/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "x_transformers/core/error.h"

namespace x_transformers {

ScheduleShape schedule_shape(const std::string& name) {
  if (name == "constant") return ScheduleShape::kConstant;
  if (name == "cosine") return ScheduleShape::kCosine;
  if (name == "linear") return ScheduleShape::kLinear;
  if (name == "inverse_sqrt") return ScheduleShape::kInverseSqrt;
  if (name == "wsd") return ScheduleShape::kWsd;
  throw InputError(Notice{
      at("schedule"), {}, "constant, cosine, linear, inverse_sqrt or wsd", "'" + name + "'"});
}

namespace {

/// How much of the descent from `first` to `last` is done at `step`.
double progress(int64_t step, int64_t first, int64_t last) {
  const auto length = static_cast<double>(std::max<int64_t>(last - first, 1));
  return std::clamp(static_cast<double>(step - first) / length, 0.0, 1.0);
}

}  // namespace

double Schedule::ratio(int64_t step) const {
  if (step < warmup_steps)
    return static_cast<double>(std::max<int64_t>(step, 0)) / static_cast<double>(warmup_steps);
  const auto between = [&](double height) { return min_ratio + (1.0 - min_ratio) * height; };
  const double done = progress(step, warmup_steps, steps);
  switch (shape) {
    case ScheduleShape::kCosine:
      return between(0.5 * (1.0 + std::cos(std::numbers::pi * done)));
    case ScheduleShape::kLinear:
      return between(1.0 - done);
    case ScheduleShape::kInverseSqrt: {
      const auto start = static_cast<double>(std::max<int64_t>(warmup_steps, 1));
      return std::max(min_ratio,
                      std::sqrt(start / static_cast<double>(std::max<int64_t>(step, 1))));
    }
    case ScheduleShape::kWsd:
      return between(1.0 - progress(step, std::max(warmup_steps, steps - decay_steps), steps));
    default:
      return 1.0;
  }
}

}  // namespace x_transformers
