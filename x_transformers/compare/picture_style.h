// How the pictures of reports look.
#pragma once

#include <array>
#include <string>

namespace x_transformers {

// Okabe and Ito's colours, which the colour-blind tell apart; black is what others are beside.
inline constexpr const char* kPictureBlack = "#000000";
inline constexpr std::array kPictureColors{"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                           "#E69F00", "#56B4E9", "#8C510A"};

/// Axes and grid, as gnuplot's script.
inline constexpr const char* kPictureFrame =
    "set border 3 lc rgb '#404040'\nset tics nomirror out textcolor rgb '#202020'\n"
    "set grid lc rgb '#e4e4e4' lw 1 lt 1\n";

/// The beginning of gnuplot's script for a picture of this size in "png" or "svg".
std::string picture_terminal(const std::string& format, int width, int height);

/// `name` cut so that it leaves room for the picture, with spaces for control characters.
std::string short_name(const std::string& name);

}  // namespace x_transformers
