#include "x_transformers/compare/comparison_result.h"

namespace x_transformers {

std::optional<double> mean_speed(const VariantResult& variant) {
  std::vector<double> each;
  for (const auto& run : variant.runs) {
    if (run.targets_per_second) each.push_back(*run.targets_per_second);
  }
  return each.empty() ? std::nullopt : std::optional(mean_of(each));
}

std::vector<double> VariantResult::losses() const {
  std::vector<double> values;
  for (const auto& run : runs) values.push_back(run.last_val_loss);
  return values;
}

std::vector<double> VariantResult::best_losses() const {
  std::vector<double> values;
  for (const auto& run : runs) values.push_back(run.best_val_loss);
  return values;
}

void judge(ComparisonResult& result) {
  const auto base = result.base.losses();
  const auto speed = mean_speed(result.base);
  const auto set_speed = [&](VariantResult& variant) {
    if (speed && variant.relative_speed) variant.usual_speed = *speed * *variant.relative_speed;
  };
  set_speed(result.base);
  for (auto& variant : result.variants) {
    set_speed(variant);
    if (!variant.is_judged()) continue;
    const auto losses = variant.losses();
    variant.difference = welch_difference(losses, base);
    variant.paired = paired_difference(losses, base);
    variant.verdict = verdict_of(variant.difference);
    variant.steps_to_base_loss =
        step_of_loss(mean_curve(variant.runs, &RunNumbers::val_loss), mean_of(base));
    if (!variant.steps_to_base_loss) continue;
    const auto targets =
        value_at(mean_curve(variant.runs, &RunNumbers::targets), *variant.steps_to_base_loss);
    if (targets && variant.usual_speed)
      variant.seconds_to_base_loss = *targets / *variant.usual_speed;
  }
}

}  // namespace x_transformers
