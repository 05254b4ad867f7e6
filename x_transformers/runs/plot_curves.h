// What a loss curve shows, for the two ways to draw it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace x_transformers {

/// Points (step, value), by step.
using Curve = std::vector<std::pair<double, double>>;

struct LossPlot {
  std::string title;
  std::string axis_label;  // of the losses
  Curve loss;              // of training, as measured; thinned to what a picture can show
  Curve smoothed_loss;     // its moving average
  Curve val_loss;
  Curve learning_rate;
  std::pair<double, double> steps;   // range of the axes
  std::pair<double, double> losses;  // isolated peaks of `loss` may lie outside
  std::string loss_label;
  std::string val_loss_label;
};

/// The mean over up to `width` points around each one; fewer at the ends, and at the start as many
/// to the left as to the right, so that a steep start is not flattened.
Curve moving_average(const Curve& curve, double width);

/// The lowest and the highest point in each of `buckets` equal parts, in order: the same picture
/// with few points.
Curve thin_out(const Curve& curve, size_t buckets);

/// Distances of 1, 2 or 5 times a power of ten: the multiples within [low, high], about `count` of
/// them.
std::vector<double> axis_ticks(double low, double high, int count);

/// The bytes of a PNG or SVG ("png", "svg") drawn by gnuplot; absent where it is not installed or
/// fails.
std::optional<std::string> draw_with_gnuplot(const LossPlot& plot, const std::string& format);

/// An SVG drawn without help.
std::string draw_svg(const LossPlot& plot);

}  // namespace x_transformers
