// Pictures of runs beside each other, drawn by gnuplot.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "x_transformers/compare/comparison.h"
#include "x_transformers/compare/run_numbers.h"

namespace x_transformers {

struct NamedCurve {
  std::string name;
  std::vector<StepPoint> points;
};

/// Losses over something. The first curve is what the others are compared with.
struct CurvesPicture {
  std::string title, x_label, y_label;
  std::vector<NamedCurve> curves;
};

// Each is absent where gnuplot is not installed or there is nothing to draw. `format` is "png" or
// "svg".

/// With many curves those that end lowest and highest are named, and the rest is grey.
std::optional<std::string> draw_curves(const CurvesPicture& picture, const std::string& format);

/// A forest plot: the difference of each variant to the base with its interval.
std::optional<std::string> draw_differences(const ComparisonResult& result,
                                            const std::string& format);

/// Loss against what a step costs beside one of the base.
std::optional<std::string> draw_costs(const ComparisonResult& result, const std::string& format);

/// The validation losses of base and variants, means over their seeds, over "steps", "seconds" or
/// "tokens" (targets).
CurvesPicture loss_curves(const ComparisonResult& result, const std::string& x);

/// The x values of a curve over steps turned into seconds or targets of the run.
std::vector<StepPoint> over(const std::vector<StepPoint>& curve, const RunNumbers& run,
                            const std::string& x);

/// What stands beside an axis of losses: with their unit, where that is known.
std::string loss_label(const std::string& loss, const std::string& unit);

/// What stands below an axis of steps, seconds or tokens (targets of that unit).
std::string x_label_of(const std::string& x, const std::string& target_unit);

}  // namespace x_transformers
