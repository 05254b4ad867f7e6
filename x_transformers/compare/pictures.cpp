#include "x_transformers/compare/pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string_view>

#include "x_transformers/compare/picture_style.h"
#include "x_transformers/core/format.h"
#include "x_transformers/runs/gnuplot.h"

namespace x_transformers {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

constexpr const char* kBetterColor = "#0072B2";
constexpr const char* kWorseColor = "#D55E00";
constexpr const char* kNeitherColor = "#707070";
constexpr const char* kOtherColor = "#c4c4c4";

/// Between two curves of a plot command.
constexpr const char* kNext = ", \\\n  ";

std::string data_of(const std::string& name, const std::vector<StepPoint>& points) {
  auto block = fmt::format("${} << EOD\n", name);
  for (const auto& [x, y] : points) {
    if (std::isfinite(x) && std::isfinite(y)) block += fmt::format("{} {}\n", x, y);
  }
  return block + "EOD\n";
}

/// The curves that get a name: the base, and of many those that end lowest and the one that ends
/// highest.
std::vector<bool> named_ones(const std::vector<NamedCurve>& curves) {
  std::vector<bool> named(curves.size(), curves.size() <= kPictureColors.size() + 1);
  if (named.empty() || named[0]) return named;
  std::vector<size_t> order(curves.size() - 1);
  std::iota(order.begin(), order.end(), size_t{1});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return curves[a].points.back().second < curves[b].points.back().second;
  });
  named[0] = true;
  for (size_t i = 0; i + 2 < kPictureColors.size(); ++i) named[order[i]] = true;
  named[order.back()] = true;
  return named;
}

/// From a little below the lowest loss to the highest after the first tenth, in which losses fall
/// from where every run begins.
std::pair<double, double> loss_limits(const std::vector<NamedCurve>& curves) {
  double low = kInfinite, high = -kInfinite, end = -kInfinite;
  for (const auto& curve : curves) end = std::max(end, curve.points.back().first);
  for (const auto& curve : curves) {
    for (const auto& [x, y] : curve.points) {
      if (!std::isfinite(y)) continue;
      low = std::min(low, y);
      if (x >= 0.1 * end || curve.points.size() < 3) high = std::max(high, y);
    }
  }
  const double margin = high > low ? 0.05 * (high - low) : std::max(std::abs(high) * 0.1, 0.1);
  return {low - margin, high + margin};
}

std::vector<const VariantResult*> judged_by_difference(const ComparisonResult& result) {
  std::vector<const VariantResult*> all;
  for (const auto& variant : result.variants) {
    if (variant.is_judged()) all.push_back(&variant);
  }
  std::stable_sort(all.begin(), all.end(), [](const auto* a, const auto* b) {
    return a->difference.value < b->difference.value;
  });
  return all;
}

const char* color_of(Verdict verdict) {
  return verdict == Verdict::kBetter  ? kBetterColor
         : verdict == Verdict::kWorse ? kWorseColor
                                      : kNeitherColor;
}

/// What the colours of verdicts mean, in the first line of a picture of this height.
std::string verdict_key(int height) {
  std::string script;
  for (const auto& [verdict, x] :
       {std::pair(Verdict::kBetter, 0.03), std::pair(Verdict::kNoDifferenceSeen, 0.13),
        std::pair(Verdict::kWorse, 0.33)})
    script += fmt::format(
        "set label {} at screen {},{:.4f} point pt 7 ps 0.9 lc rgb '{}' offset character 1.2,0\n",
        gnuplot_text(words_of(verdict)), x, 1 - 18.0 / height, color_of(verdict));
  return script;
}

/// The range of a forest plot: of intervals, but not of those that would make all others a dot.
std::pair<double, double> difference_limits(const std::vector<const VariantResult*>& variants) {
  double low = 0, high = 0, furthest = 0;
  std::vector<double> ends;
  for (const auto* variant : variants) {
    const auto& difference = variant->difference;
    furthest = std::max(furthest, std::abs(difference.value));
    low = std::min(low, difference.low.value_or(difference.value));
    high = std::max(high, difference.high.value_or(difference.value));
    ends.push_back(
        std::max(std::abs(difference.low.value_or(0)), std::abs(difference.high.value_or(0))));
  }
  const double most = std::max({4 * furthest, 2 * median_of(ends), 1e-9});
  low = std::max(low, -most);
  high = std::min(high, most);
  const double margin = std::max(0.04 * (high - low), 1e-9);
  return {low - margin, high + margin};
}

struct CostPoint {
  std::string name;
  double cost = 1, loss = 0;
  bool is_named = false;
};

std::vector<CostPoint> cost_points(const ComparisonResult& result) {
  std::vector<CostPoint> points;
  if (!result.base.runs.empty()) points.push_back({"base", 1, mean_of(result.base.losses()), true});
  for (const auto* variant : judged_by_difference(result)) {
    if (variant->relative_speed)
      points.push_back(
          {variant->name, 1 / *variant->relative_speed, mean_of(variant->losses()), false});
  }
  return points;
}

/// Names the points that no other one beats in both, and the lowest losses.
void name_points(std::vector<CostPoint>& points) {
  constexpr size_t kMax = 6;
  for (auto& point : points) {
    const bool is_beaten = std::any_of(points.begin(), points.end(), [&](const auto& other) {
      return other.loss < point.loss && other.cost < point.cost;
    });
    point.is_named |= !is_beaten;
  }
  for (size_t i = 0; i < std::min(points.size(), kMax); ++i) points[i].is_named = true;
}

/// The highest loss that is drawn in its place: one far above most would make one line of them.
double highest_shown(const std::vector<CostPoint>& points) {
  std::vector<double> losses;
  for (const auto& point : points) losses.push_back(point.loss);
  std::sort(losses.begin(), losses.end());
  const double low = losses[losses.size() / 4], high = losses[losses.size() * 3 / 4];
  const double limit = high + 4 * (high - low);
  constexpr size_t kFew = 5;
  const auto above = std::upper_bound(losses.begin(), losses.end(), limit);
  return losses.size() < kFew || high <= low ? losses.back() : *std::prev(above);
}

/// A part of the picture, in shares of its size; `y` is the middle of a line of text.
struct Box {
  double left, right, y;
};

bool overlaps(const Box& one, const Box& other) {
  constexpr double kLine = 0.04;
  return std::abs(one.y - other.y) < kLine && one.left < other.right && other.left < one.right;
}

/// Labels beside their points, or, where these would stand in each other's way, at the nearest free
/// place with a line to the point.
class CostLabels {
 public:
  /// `taken` are the places of the points.
  explicit CostLabels(std::vector<Box> taken) : taken_(std::move(taken)) {}

  void add(const std::string& name, double x, double y, const char* color) {
    constexpr double kCharacter = 0.0088, kStep = 0.042, kBeside = 0.013;
    const double width = kCharacter * static_cast<double>(name.size());
    for (int move = 0; move < 60; ++move) {
      const double moved = y + (move % 2 == 0 ? 1 : -1) * kStep * ((move + 1) / 2);
      for (const bool is_left : {false, true}) {
        const double from = is_left ? x - kBeside - width : x + kBeside;
        const Box box{from, from + width, moved};
        if (!is_free(box)) continue;
        taken_.push_back(box);
        write(name, is_left ? box.right : box.left, moved, is_left, color);
        if (move > 0) point_at(x, y, is_left ? box.right : box.left, moved);
        return;
      }
    }
  }

  const std::string& script() const { return script_; }

 private:
  bool is_free(const Box& box) const {
    return box.left > 0 && box.right < 1 && box.y > 0.02 && box.y < 0.98 &&
           std::none_of(taken_.begin(), taken_.end(),
                        [&](const Box& other) { return overlaps(box, other); });
  }

  void write(const std::string& name, double x, double y, bool is_left, const char* color) {
    script_ += fmt::format("set label {} at graph {:.4f},{:.4f} {} tc rgb '{}'\n",
                           gnuplot_text(name), x, y, is_left ? "right" : "left", color);
  }

  void point_at(double x, double y, double label_x, double label_y) {
    script_ += fmt::format(
        "set arrow from graph {:.4f},{:.4f} to graph {:.4f},{:.4f} nohead back lc rgb '{}'\n",
        label_x, label_y, x, y, kOtherColor);
  }

  std::vector<Box> taken_;
  std::string script_;
};

}  // namespace

std::string x_label_of(const std::string& x, const std::string& target_unit) {
  if (x == "seconds") return "seconds of training (without start-up and validation)";
  if (x == "tokens") return target_unit + " trained on";
  return "steps";
}

std::string loss_label(const std::string& loss, const std::string& unit) {
  return unit.empty() ? loss : fmt::format("{} ({})", loss, unit);
}

std::vector<StepPoint> over(const std::vector<StepPoint>& curve, const RunNumbers& run,
                            const std::string& x) {
  if (x == "steps") return curve;
  const auto& place = x == "seconds" ? run.seconds : run.targets;
  std::vector<StepPoint> moved;
  for (const auto& [step, value] : curve) {
    if (const auto at = value_at(place, step)) moved.emplace_back(*at, value);
  }
  return moved;
}

CurvesPicture loss_curves(const ComparisonResult& result, const std::string& x) {
  CurvesPicture picture;
  picture.title = "Validation loss, mean of " + how_many(result.seeds, "seed");
  picture.y_label = loss_label("validation loss", result.loss_unit);
  const auto add = [&](const VariantResult& variant) {
    if (variant.has_failed() || variant.runs.empty()) return;
    RunNumbers mean;
    mean.targets = mean_curve(variant.runs, &RunNumbers::targets);
    mean.seconds = mean_curve(variant.runs, &RunNumbers::seconds);
    if (variant.usual_speed) {
      mean.seconds = mean.targets;
      for (auto& [step, seconds] : mean.seconds) seconds /= *variant.usual_speed;
    }
    auto points = over(mean_curve(variant.runs, &RunNumbers::val_loss), mean, x);
    if (!points.empty()) picture.curves.push_back({variant.name, std::move(points)});
  };
  add(result.base);
  for (const auto& variant : result.variants) add(variant);
  const auto unit = result.base.runs.empty() ? "targets" : result.base.runs.front().target_unit;
  picture.x_label = x_label_of(x, unit);
  if (x == "seconds" && result.base.usual_speed)
    picture.x_label = "seconds of training, at the usual speed of each";
  return picture;
}

std::optional<std::string> draw_curves(const CurvesPicture& picture, const std::string& format) {
  std::vector<NamedCurve> curves;
  for (const auto& curve : picture.curves) {
    if (!curve.points.empty()) curves.push_back(curve);
  }
  if (curves.empty()) return std::nullopt;
  const auto named = named_ones(curves);
  const auto [low, high] = loss_limits(curves);
  // Names stand below, in two columns or three, where no curve runs through them.
  constexpr int kHeight = 560, kNameLine = 12;
  const auto names = static_cast<int>(std::min(curves.size(), kPictureColors.size() + 2));
  auto script = picture_terminal(format, 1000, kHeight + kNameLine * names) + kPictureFrame;
  std::string grey, colored;
  size_t color = 0, others = 0;
  for (size_t i = 0; i < curves.size(); ++i) {
    const auto block = fmt::format("c{}", i);
    script += data_of(block, curves[i].points);
    const auto line = [&](const std::string& style, const std::string& title) {
      // A line through one point is none.
      constexpr size_t kFewPoints = 12;
      const auto* drawn =
          curves[i].points.size() <= kFewPoints ? "linespoints pt 7 ps 0.8" : "lines";
      return fmt::format("${} using 1:2 with {} {} {}", block, drawn, style, title) + kNext;
    };
    if (!named[i]) {
      const auto title = others == 0 ? std::string("title 'the others'") : std::string("notitle");
      grey += line(fmt::format("lw 1.2 lc rgb '{}'", kOtherColor), title);
      ++others;
      continue;
    }
    const auto label =
        "title " + gnuplot_text(fmt::format("{} ({:.4f})", short_name(curves[i].name),
                                            curves[i].points.back().second));
    const auto style = i == 0 ? fmt::format("lw 2.6 dt 2 lc rgb '{}'", kPictureBlack)
                              : fmt::format("lw 2 lc rgb '{}'",
                                            kPictureColors.at(color++ % kPictureColors.size()));
    colored += line(style, label);
  }
  auto lines = grey + colored;
  lines.resize(lines.size() - std::string_view(kNext).size());
  script += fmt::format(
      "set title {}\nset xlabel {}\nset ylabel {}\nset xrange [0:*]\nset yrange [{}:{}]\n"
      // Half of the last number of the axis stands to the right of it.
      "set rmargin 7\nset key below Left reverse samplen 3 spacing 1.2 height 1\nplot {}\n",
      gnuplot_text(picture.title), gnuplot_text(picture.x_label), gnuplot_text(picture.y_label),
      low, high, lines);
  return run_gnuplot(script, format);
}

std::optional<std::string> draw_differences(const ComparisonResult& result,
                                            const std::string& format) {
  const auto variants = judged_by_difference(result);
  if (variants.empty()) return std::nullopt;
  const auto [low, high] = difference_limits(variants);
  const auto rows = static_cast<int>(variants.size());
  const int height = 150 + 30 * rows;
  auto script = picture_terminal(format, 1000, height) + kPictureFrame + verdict_key(height);
  std::string tics, lines;
  size_t longest = 0;
  for (int i = 0; i < rows; ++i) {
    const auto& variant = *variants[static_cast<size_t>(i)];
    const auto& difference = variant.difference;
    const int y = rows - i;
    const auto name = short_name(variant.name);
    longest = std::max(longest, name.size());
    tics += fmt::format("{}{} {}", i == 0 ? "" : ", ", gnuplot_text(name), y);
    script += fmt::format("$v{} << EOD\n{} {} {} {}\nEOD\n", i, difference.value, y,
                          std::max(difference.low.value_or(difference.value), low),
                          std::min(difference.high.value_or(difference.value), high));
    lines +=
        fmt::format("${}{} using 1:2:3:4 with xerrorbars lw 2 pt 7 ps 0.9 lc rgb '{}' notitle, ",
                    "v", i, color_of(variant.verdict));
  }
  lines.resize(lines.size() - 2);
  const bool has_intervals = variants.front()->difference.low.has_value();
  script += fmt::format(
      "set title {}\nset xlabel {}\n"
      "set lmargin {}\nset yrange [0.3:{}.7]\nset xrange [{}:{}]\nset ytics ({})\n"
      "set tmargin 4\nunset key\n"
      "set arrow from 0,graph 0 to 0,graph 1 nohead lw 1.5 lc rgb '#000000'\nplot {}\n",
      gnuplot_text("Left of the line is better"),
      gnuplot_text(loss_label("difference of the validation loss to the base", result.loss_unit) +
                   (has_intervals ? ", with its 95 % interval" : "")),
      longest + 3, rows, low, high, tics, lines);
  return run_gnuplot(script, format);
}

std::optional<std::string> draw_costs(const ComparisonResult& result, const std::string& format) {
  auto points = cost_points(result);
  if (points.size() < 2) return std::nullopt;
  name_points(points);
  const double high = highest_shown(points);
  double low_cost = kInfinite, high_cost = -kInfinite, low = kInfinite;
  std::vector<StepPoint> base, others, above;
  for (const auto& point : points) {
    low_cost = std::min(low_cost, point.cost);
    high_cost = std::max(high_cost, point.cost);
    low = std::min(low, point.loss);
    auto& of_kind = point.loss > high                      ? above
                    : point.name == "base" && base.empty() ? base
                                                           : others;
    of_kind.emplace_back(point.cost, std::min(point.loss, high));
  }
  const double cost_margin = std::max(0.12 * (high_cost - low_cost), 0.02),
               margin = std::max(0.08 * (high - low), 1e-6);
  const std::pair costs{low_cost - cost_margin, high_cost + cost_margin},
      losses{low - margin, high + margin};
  const auto place_of = [&](const CostPoint& point) {
    return std::pair((point.cost - costs.first) / (costs.second - costs.first),
                     (std::min(point.loss, high) - losses.first) / (losses.second - losses.first));
  };
  constexpr double kPointWidth = 0.008;
  std::vector<Box> taken;
  for (const auto& point : points) {
    const auto [x, y] = place_of(point);
    taken.push_back({x - kPointWidth, x + kPointWidth, y});
  }
  CostLabels labels(std::move(taken));
  for (const auto& point : points) {
    const bool is_above = point.loss > high;
    if (!point.is_named && !is_above) continue;
    const auto [x, y] = place_of(point);
    const auto name = short_name(point.name);
    labels.add(is_above ? fmt::format("{} ({:.4f})", name, point.loss) : name, x, y,
               point.name == "base" ? kPictureBlack : "#303030");
  }
  auto script = picture_terminal(format, 1000, 600) + kPictureFrame + data_of("base", base) +
                data_of("others", others) + data_of("above", above) + labels.script();
  script += fmt::format(
      "set title '{}'\nset xlabel 'time of a training step (that of the base is 1)'\nset ylabel "
      "{}\nset xrange [{}:{}]\nset yrange [{}:{}]\nunset key\nplot "
      "$others using 1:2 with points pt 7 ps 1 lc rgb '{}', $base using 1:2 with points pt 5 ps "
      "1.3 "
      "lc rgb '{}'{}\n",
      above.empty() ? "Down is better, left is cheaper"
                    : "Down is better, left is cheaper; triangles stand for higher losses",
      gnuplot_text(loss_label("validation loss at the end", result.loss_unit)), costs.first,
      costs.second, losses.first, losses.second, kBetterColor, kPictureBlack,
      above.empty()
          ? std::string()
          : fmt::format(", $above using 1:2 with points pt 9 ps 1.3 lc rgb '{}'", kWorseColor));
  return run_gnuplot(script, format);
}

}  // namespace x_transformers
