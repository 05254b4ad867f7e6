#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/runs/gnuplot.h"
#include "x_transformers/runs/plot_curves.h"

namespace x_transformers {
namespace {

std::string data_block(const char* name, const Curve& curve) {
  std::string block = fmt::format("${} << EOD\n", name);
  for (const auto& [step, value] : curve) block += fmt::format("{} {}\n", step, value);
  return block + "EOD\n";
}

/// A line through one point is none.
const char* drawn_as(const Curve& curve) {
  return curve.size() == 1 ? "points pt 7 ps 1.2" : "lines";
}

/// The plot command of the upper panel.
std::string loss_command(const LossPlot& plot) {
  std::string parts;
  const auto add = [&](const std::string& part) {
    parts += (parts.empty() ? "" : ", \\\n  ") + part;
  };
  if (!plot.loss.empty()) {
    const std::string drawn = drawn_as(plot.loss);
    add("$loss using 1:2 with " + drawn + " lw 1 lc rgb '#9cc3e6' title 'training, as logged'");
    add("$smoothed using 1:2 with " + drawn + " lw 2.5 lc rgb '#1f5fa8' title " +
        gnuplot_text(plot.loss_label));
  }
  if (!plot.val_loss.empty()) {
    add("$validation using 1:2 with linespoints lw 2.5 pt 7 ps 0.7 lc rgb '#d1495b' title " +
        gnuplot_text(plot.val_loss_label));
  }
  return "plot " + parts + "\n";
}

/// A label beside an axis, at the same distance from the edge in both panels.
std::string side_label(int number, const std::string& text, double height) {
  return fmt::format("set label {} {} at screen 0.022, screen {} rotate center\n", number,
                     gnuplot_text(text), height);
}

/// The lower panel.
std::string rate_commands(const Curve& rate) {
  double highest = 0;
  for (const auto& [step, value] : rate) highest = std::max(highest, value);
  if (highest <= 0) highest = 1;
  const auto ticks = axis_ticks(0, highest, 2);
  return fmt::format(
             "unset title\nunset key\nunset label 1\nset tmargin at screen 0.29\n"
             "set bmargin at screen 0.12\nset yrange [0:{}]\nset ytics {}\nset format x '%.0f'\n"
             "set format y '%g'\nset xlabel 'step'\n",
             1.05 * highest, ticks.at(1)) +
         side_label(2, "learning rate", 0.205) +
         fmt::format("plot $rate using 1:2 with {} lw 2 lc rgb '#3c8d5a' notitle\n",
                     drawn_as(rate));
}

std::string make_script(const LossPlot& plot, const std::string& format) {
  const bool two_panels = !plot.learning_rate.empty();
  const double bottom = two_panels ? 0.34 : 0.12;
  std::string script = "set encoding utf8\n";
  script += format == "png" ? "set terminal pngcairo noenhanced size 1500,940 font 'Sans,16'\n"
                            : "set terminal svg noenhanced size 1000,620 font 'sans-serif,14' "
                              "background rgb 'white'\n";
  script += data_block("loss", plot.loss) + data_block("smoothed", plot.smoothed_loss) +
            data_block("validation", plot.val_loss) + data_block("rate", plot.learning_rate);
  script += fmt::format(
      "set multiplot\n"
      "set border 3 lc rgb '#404040'\nset tics nomirror out textcolor rgb '#202020'\n"
      "set grid lc rgb '#e4e4e4' lw 1 lt 1\nset lmargin at screen 0.11\nset rmargin at screen "
      "0.965\n"
      "set xrange [{}:{}]\nset yrange [{}:{}]\n"
      "set tmargin at screen 0.92\nset bmargin at screen {}\n"
      "set key top right samplen 2 spacing 1.25\nset title {}\n"
      "set format x {}\n{}",
      plot.steps.first, plot.steps.second, plot.losses.first, plot.losses.second, bottom,
      gnuplot_text(plot.title), two_panels ? "''" : "'%.0f'",
      two_panels ? "" : "set xlabel 'step'\n");
  script += side_label(1, plot.axis_label, (0.92 + bottom) / 2) + loss_command(plot);
  if (two_panels) script += rate_commands(plot.learning_rate);
  return script + "unset multiplot\n";
}

}  // namespace

std::optional<std::string> draw_with_gnuplot(const LossPlot& plot, const std::string& format) {
  return run_gnuplot(make_script(plot, format), format);
}

}  // namespace x_transformers
