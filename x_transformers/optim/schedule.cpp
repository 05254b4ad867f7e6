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
  throw InputError(Notice{at("schedule"), {}, "constant, cosine or linear", "'" + name + "'"});
}

double Schedule::ratio(int64_t step) const {
  if (step < warmup_steps)
    return static_cast<double>(std::max<int64_t>(step, 0)) / static_cast<double>(warmup_steps);
  if (shape == ScheduleShape::kConstant) return 1.0;
  const auto descent = static_cast<double>(std::max<int64_t>(steps - warmup_steps, 1));
  const double progress = std::clamp(static_cast<double>(step - warmup_steps) / descent, 0.0, 1.0);
  const double height = shape == ScheduleShape::kCosine
                            ? 0.5 * (1.0 + std::cos(std::numbers::pi * progress))
                            : 1.0 - progress;
  return min_ratio + (1.0 - min_ratio) * height;
}

}  // namespace x_transformers
