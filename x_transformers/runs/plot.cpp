#include "x_transformers/runs/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "x_transformers/core/error.h"
#include "x_transformers/core/utf8.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/metrics.h"
#include "x_transformers/runs/plot_curves.h"

namespace x_transformers {
namespace {

constexpr size_t kBuckets = 1000;

Curve read_curve(const std::vector<nlohmann::ordered_json>& rows, const char* name) {
  Curve curve;
  for (const auto& row : rows) {
    const auto step = row.find(metric::kStep), value = row.find(name);
    if (step == row.end() || value == row.end() || !step->is_number() || !value->is_number())
      continue;
    curve.emplace_back(step->get<double>(), value->get<double>());
  }
  std::stable_sort(curve.begin(), curve.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  return curve;
}

/// One line of text that is safe in a script and in XML once quoted.
std::string clean_title(const std::string& title) {
  const bool valid = !find_invalid_utf8(title);
  std::string clean;
  for (const char c : title) {
    const auto byte = static_cast<unsigned char>(c);
    clean += byte < 0x20 || byte == 0x7F ? ' ' : !valid && byte >= 0x80 ? '?' : c;
  }
  return clean;
}

std::pair<double, double> value_range(const Curve& curve, double low, double high) {
  for (const auto& [step, value] : curve) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  return {low, high};
}

std::pair<double, double> step_range(const LossPlot& plot) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto* curve : {&plot.loss, &plot.val_loss, &plot.learning_rate}) {
    if (curve->empty()) continue;
    low = std::min(low, curve->front().first);
    high = std::max(high, curve->back().first);
  }
  // A run starts at its first step, unless it was resumed far from there.
  if (low < 0.1 * high) low = 0;
  if (low == high) high = low + 1;
  return {low, high};
}

/// `range` with so much more above that no curve runs through the legend, at the top right.
std::pair<double, double> with_room_for_legend(const LossPlot& plot,
                                               const std::pair<double, double>& range) {
  constexpr double kWidth = 0.45, kHeight = 0.2;  // of the panel
  const auto [low, high] = range;
  const double first = plot.steps.second - kWidth * (plot.steps.second - plot.steps.first);
  double highest = low;
  for (const auto* curve : {&plot.loss, &plot.smoothed_loss, &plot.val_loss}) {
    for (const auto& [step, value] : *curve)
      if (step >= first) highest = std::max(highest, std::min(value, high));
  }
  return {low, std::max(high, low + (highest - low) / (1 - kHeight))};
}

std::pair<double, double> loss_range(const LossPlot& plot) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto typical = value_range(plot.smoothed_loss, kInfinity, -kInfinity);
  const auto with_val = value_range(plot.val_loss, typical.first, typical.second);
  // Low values of the raw loss are shown, its isolated peaks are not.
  const double low = value_range(plot.loss, with_val.first, kInfinity).first,
               high = with_val.second;
  const double margin = high > low ? 0.04 * (high - low) : std::max(std::abs(high) * 0.1, 0.1);
  return with_room_for_legend(plot, {low - margin, high + margin});
}

LossPlot make_plot(const std::string& metrics, const PlotOptions& options) {
  const auto rows = read_metrics(metrics);
  LossPlot plot;
  plot.title = clean_title(options.title);
  plot.axis_label =
      options.loss_unit.empty() ? "loss" : fmt::format("loss ({})", clean_title(options.loss_unit));
  plot.loss = read_curve(rows, metric::kLoss);
  plot.val_loss = read_curve(rows, metric::kValLoss);
  plot.learning_rate = read_curve(rows, metric::kLearningRate);
  require(!plot.loss.empty() || !plot.val_loss.empty(), metrics + " has no loss to draw");
  plot.smoothed_loss =
      moving_average(plot.loss, options.smoothing * static_cast<double>(plot.loss.size()));
  plot.steps = step_range(plot);
  plot.losses = loss_range(plot);
  if (!plot.loss.empty()) {
    const auto& [step, loss] = plot.smoothed_loss.back();
    plot.loss_label = plot.loss.size() == 1
                          ? fmt::format("training ({:.3f} at step {}, logged once)", loss, step)
                          : fmt::format("training, smoothed (last {:.3f})", loss);
  }
  if (!plot.val_loss.empty()) {
    const auto best =
        *std::min_element(plot.val_loss.begin(), plot.val_loss.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto* pattern = plot.val_loss.size() == 1 ? "validation ({:.3f} at step {}, the only one)"
                                                    : "validation (best {:.3f} at step {})";
    plot.val_loss_label = fmt::format(fmt::runtime(pattern), best.second, best.first);
  }
  for (auto* curve : {&plot.loss, &plot.smoothed_loss, &plot.learning_rate}) {
    *curve = thin_out(*curve, kBuckets);
  }
  return plot;
}

}  // namespace

Curve moving_average(const Curve& curve, double width) {
  std::vector<double> sums{0};
  for (const auto& [step, value] : curve) sums.push_back(sums.back() + value);
  const auto half = static_cast<size_t>(std::max(0.0, std::round((width - 1) / 2)));
  Curve average;
  for (size_t i = 0; i < curve.size(); ++i) {
    const size_t left = std::min(half, i);
    const size_t right = std::min({half, i, curve.size() - 1 - i});
    average.emplace_back(curve[i].first, (sums[i + right + 1] - sums[i - left]) /
                                             static_cast<double>(left + right + 1));
  }
  return average;
}

Curve thin_out(const Curve& curve, size_t buckets) {
  if (curve.size() <= 2 * buckets) return curve;
  Curve thin;
  for (size_t bucket = 0; bucket < buckets; ++bucket) {
    const auto begin = curve.begin() + static_cast<ptrdiff_t>(bucket * curve.size() / buckets);
    const auto end = curve.begin() + static_cast<ptrdiff_t>((bucket + 1) * curve.size() / buckets);
    auto [low, high] = std::minmax_element(
        begin, end, [](const auto& a, const auto& b) { return a.second < b.second; });
    thin.push_back(*std::min(low, high));
    if (low != high) thin.push_back(*std::max(low, high));
  }
  return thin;
}

std::string plot_metrics(const std::string& metrics, const std::string& picture,
                         const PlotOptions& options) {
  const auto ending = std::filesystem::path(picture).extension().string();
  require(ending == ".png" || ending == ".svg",
          fmt::format("picture {}: expected a name ending in .png or .svg", picture));
  expect(options.smoothing >= 0 && options.smoothing <= 1, at(OptionPath("plot") / "smoothing"),
         options.smoothing, "a share from 0 to 1");
  const auto plot = make_plot(metrics, options);
  if (options.use_gnuplot) {
    if (const auto drawn = draw_with_gnuplot(plot, ending.substr(1))) {
      write_file_atomically(picture, *drawn);
      return picture;
    }
  }
  auto path = std::filesystem::path(picture).replace_extension(".svg").string();
  write_file_atomically(path, draw_svg(plot));
  return path;
}

}  // namespace x_transformers
