// gnuplot, which draws pictures where it is installed.
#pragma once

#include <optional>
#include <string>

namespace x_transformers {

/// The bytes of a PNG or SVG (`format` "png" or "svg", the terminal that the script sets) drawn by
/// gnuplot; absent where it is not installed or fails.
std::optional<std::string> run_gnuplot(const std::string& script, const std::string& format);

/// Why run_gnuplot drew nothing; where gnuplot is not installed, also how to get it.
std::string gnuplot_unsupported();
/// Whether there is a gnuplot among the programs of PATH.
bool has_gnuplot();

/// `text` as a string of a script.
std::string gnuplot_text(const std::string& text);

}  // namespace x_transformers
