#include "x_transformers/compare/run_numbers.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "x_transformers/compare/statistics.h"
#include "x_transformers/core/error.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/metrics.h"

namespace x_transformers {
namespace {

using Row = nlohmann::ordered_json;

std::optional<double> number_in(const Row& row, const std::string& name) {
  const auto found = row.find(name);
  return found != row.end() && found->is_number() ? std::optional(found->get<double>())
                                                  : std::nullopt;
}

/// What is counted in a log line: tokens, examples.
std::optional<std::string> unit_of(const Row& row) {
  const std::string ending = "_per_second";
  for (const auto& [key, value] : row.items()) {
    if (key.ends_with(ending)) return key.substr(0, key.size() - ending.size());
  }
  return std::nullopt;
}

void add_log_line(const Row& row, double step, RunNumbers& numbers, std::vector<double>& speeds) {
  if (const auto loss = number_in(row, metric::kLoss)) numbers.loss.emplace_back(step, *loss);
  if (const auto seconds = number_in(row, "seconds")) {
    numbers.seconds.emplace_back(step, *seconds);
    numbers.total_seconds = *seconds;
  }
  if (const auto memory = number_in(row, "memory_bytes"))
    numbers.memory_bytes = std::max(*memory, numbers.memory_bytes.value_or(0));
  const auto unit = unit_of(row);
  if (!unit) return;
  numbers.target_unit = *unit;
  if (const auto targets = number_in(row, *unit)) numbers.targets.emplace_back(step, *targets);
  if (const auto speed = number_in(row, *unit + "_per_second")) speeds.push_back(*speed);
}

std::vector<Row> rows_of(const std::filesystem::path& directory) {
  return read_metrics((directory / checkpoint_file::kMetrics).string());
}

}  // namespace

RunNumbers read_run_log(const std::filesystem::path& directory) {
  RunNumbers numbers;
  std::vector<double> speeds;
  for (const auto& row : rows_of(directory)) {
    const auto step = number_in(row, metric::kStep);
    if (!step) continue;
    if (const auto loss = number_in(row, metric::kValLoss)) {
      numbers.val_loss.emplace_back(*step, *loss);
      numbers.bits_per_byte = number_in(row, "bits_per_byte");
    } else {
      add_log_line(row, *step, numbers, speeds);
    }
  }
  // The first line pays for what is made once.
  if (speeds.size() > 1) speeds.erase(speeds.begin());
  if (!speeds.empty()) numbers.targets_per_second = median_of(speeds);
  return numbers;
}

RunNumbers read_run_numbers(const std::filesystem::path& directory) {
  auto numbers = read_run_log(directory);
  require(!numbers.val_loss.empty(), at((directory / checkpoint_file::kMetrics).string() + ":"),
          "has no validation loss");
  numbers.last_val_loss = numbers.val_loss.back().second;
  numbers.best_val_loss = numbers.last_val_loss;
  for (const auto& [step, loss] : numbers.val_loss)
    numbers.best_val_loss = std::min(numbers.best_val_loss, loss);
  return numbers;
}

std::optional<double> seconds_a_step(const std::filesystem::path& directory) {
  std::vector<double> each;
  std::optional<StepPoint> last;
  for (const auto& row : rows_of(directory)) {
    const auto step = number_in(row, metric::kStep), seconds = number_in(row, "seconds");
    if (!step || !seconds) continue;
    if (last && *step > last->first)
      each.push_back((*seconds - last->second) / (*step - last->first));
    last = StepPoint(*step, *seconds);
  }
  return each.empty() ? std::nullopt : std::optional(median_of(each));
}

std::vector<StepPoint> mean_curve(const std::vector<RunNumbers>& runs,
                                  std::vector<StepPoint> RunNumbers::*curve) {
  auto mean = runs.front().*curve;
  for (size_t i = 0; i < mean.size(); ++i) {
    std::vector<double> values;
    for (const auto& run : runs) {
      const auto& points = run.*curve;
      if (i < points.size() && points[i].first == mean[i].first) values.push_back(points[i].second);
    }
    mean[i].second = mean_of(values);
  }
  return mean;
}

std::optional<double> value_at(const std::vector<StepPoint>& curve, double step) {
  if (curve.empty()) return std::nullopt;
  if (step <= curve.front().first) return curve.front().second;
  for (size_t i = 1; i < curve.size(); ++i) {
    const auto& [left, low] = curve[i - 1];
    const auto& [right, high] = curve[i];
    if (step > right || right <= left) continue;
    return low + (high - low) * (step - left) / (right - left);
  }
  return curve.back().second;
}

std::optional<double> step_of_loss(const std::vector<StepPoint>& curve, double loss) {
  for (size_t i = 0; i < curve.size(); ++i) {
    const auto& [step, value] = curve[i];
    if (value > loss) continue;
    if (i == 0) return step;
    const auto& [before, above] = curve[i - 1];
    if (above <= value) return step;
    return before + (step - before) * (above - loss) / (above - value);
  }
  return std::nullopt;
}

}  // namespace x_transformers
