// The loss curve of a run as a picture.
#pragma once

#include <string>

namespace x_transformers {

struct PlotOptions {
  /// heading of the picture
  std::string title = "Training";
  /// what the loss is, at its axis; empty: not said
  std::string loss_unit;
  /// width of the moving average of the training loss, as a share of the run
  double smoothing = 0.02;
  /// draw with gnuplot where it is installed
  bool use_gnuplot = true;
};

/// Draws the training loss (raw and smoothed), the validation loss and the learning rate of the
/// metrics file `metrics` over the steps. `picture` ends in .png or .svg. Without gnuplot a plain
/// SVG is drawn instead, for a .png beside it under the name with .svg. Returns the path written.
/// Throws InputError when there is no row to draw or the ending is another one, RunError when the
/// picture cannot be written.
std::string plot_metrics(const std::string& metrics, const std::string& picture,
                         const PlotOptions& options = {});

}  // namespace x_transformers
