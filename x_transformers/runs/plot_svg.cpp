#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "x_transformers/runs/plot_curves.h"

namespace x_transformers {
namespace {

constexpr double kWidth = 1000, kLeft = 90, kRight = 975;
constexpr const char* kLossColor = "#9cc3e6";
constexpr const char* kSmoothedColor = "#1f5fa8";
constexpr const char* kValColor = "#d1495b";
constexpr const char* kRateColor = "#3c8d5a";

/// Text between tags.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    result += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  }
  return result;
}

std::string text_at(double x, double y, const std::string& style, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, escaped(text));
}

/// A coordinate system: the rectangle it fills and the values at its edges.
struct Panel {
  double top, bottom;
  std::pair<double, double> steps, values;

  double x(double step) const {
    return kLeft + (step - steps.first) / (steps.second - steps.first) * (kRight - kLeft);
  }
  double y(double value) const {
    return bottom - (value - values.first) / (values.second - values.first) * (bottom - top);
  }

  /// Axes, grid lines and numbers.
  std::string frame(const std::string& label, int y_ticks, bool numbers_below) const {
    std::string svg;
    for (const double value : axis_ticks(values.first, values.second, y_ticks)) {
      svg += grid_line(kLeft, y(value), kRight, y(value));
      svg +=
          text_at(kLeft - 9, y(value) + 4.5, "text-anchor=\"end\"", fmt::format("{:.6g}", value));
    }
    for (const double step : axis_ticks(steps.first, steps.second, 8)) {
      svg += grid_line(x(step), top, x(step), bottom);
      if (numbers_below) {
        svg +=
            text_at(x(step), bottom + 21, "text-anchor=\"middle\"", fmt::format("{:.10g}", step));
      }
    }
    svg += fmt::format("<path d=\"M{0} {1}V{2}H{3}\" fill=\"none\" stroke=\"#404040\"/>\n", kLeft,
                       top, bottom, kRight);
    const double middle = (top + bottom) / 2;
    return svg + fmt::format(
                     "<text transform=\"translate(24 {:.1f}) rotate(-90)\" "
                     "text-anchor=\"middle\">{}</text>\n",
                     middle, escaped(label));
  }

  std::string line(const Curve& curve, const char* color, double width, bool dots = false) const {
    std::string points, marks;
    for (const auto& [step, value] : curve) {
      points += fmt::format("{:.1f},{:.1f} ", x(step), y(value));
      if (dots || curve.size() == 1) {  // a line through one point is none
        marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"/>\n",
                             x(step), y(value), color);
      }
    }
    return fmt::format(
               "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" "
               "stroke-linejoin=\"round\"/>\n",
               points, color, width) +
           marks;
  }

 private:
  static std::string grid_line(double x1, double y1, double x2, double y2) {
    return fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" "
        "stroke=\"#e4e4e4\"/>\n",
        x1, y1, x2, y2);
  }
};

std::string legend(const LossPlot& plot) {
  std::string svg;
  double y = 68;
  const auto add = [&](const std::string& label, const char* color, double width) {
    svg += text_at(kRight - 50, y, "text-anchor=\"end\"", label);
    svg += fmt::format(
        "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" "
        "stroke-width=\"{}\"/>\n",
        kRight - 42, y - 5, kRight - 8, y - 5, color, width);
    y += 21;
  };
  if (!plot.loss.empty()) {
    add("training, as logged", kLossColor, 1);
    add(plot.loss_label, kSmoothedColor, 2.5);
  }
  if (!plot.val_loss.empty()) add(plot.val_loss_label, kValColor, 2.5);
  return svg;
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, int count) {
  const double raw = (high - low) / std::max(count, 1);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double factor = raw / power;
  const double gap = power * (factor < 1.5 ? 1 : factor < 3.5 ? 2 : factor < 7.5 ? 5 : 10);
  std::vector<double> ticks;
  const auto first = static_cast<int64_t>(std::ceil(low / gap - 1e-9));
  for (int64_t i = first; static_cast<double>(i) * gap <= high + 1e-9 * gap; ++i) {
    ticks.push_back(static_cast<double>(i) * gap + 0.0);  // no -0
  }
  return ticks;
}

std::string draw_svg(const LossPlot& plot) {
  const bool two_panels = !plot.learning_rate.empty();
  const double height = two_panels ? 640 : 500;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"14\" fill=\"#202020\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, height);
  svg += text_at((kLeft + kRight) / 2, 32, "text-anchor=\"middle\" font-size=\"18\"", plot.title);

  const Panel losses{50, 440, plot.steps, plot.losses};
  svg += losses.frame(plot.axis_label, 7, !two_panels);
  svg += fmt::format(
      "<clipPath id=\"losses\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>"
      "</clipPath>\n<g clip-path=\"url(#losses)\">\n",
      kLeft, losses.top, kRight - kLeft, losses.bottom - losses.top);
  svg += losses.line(plot.loss, kLossColor, 1) +
         losses.line(plot.smoothed_loss, kSmoothedColor, 2.5) +
         losses.line(plot.val_loss, kValColor, 2.5, /*dots=*/true) + "</g>\n" + legend(plot);

  if (two_panels) {
    double highest = 0;
    for (const auto& [step, rate] : plot.learning_rate) highest = std::max(highest, rate);
    const Panel rates{470, 575, plot.steps, {0, highest > 0 ? 1.05 * highest : 1}};
    svg += rates.frame("learning rate", 3, /*numbers_below=*/true) +
           rates.line(plot.learning_rate, kRateColor, 2);
  }
  return svg + text_at((kLeft + kRight) / 2, height - 18, "text-anchor=\"middle\"", "step") +
         "</svg>\n";
}

}  // namespace x_transformers
