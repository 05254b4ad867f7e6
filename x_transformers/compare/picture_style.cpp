#include "x_transformers/compare/picture_style.h"

#include <fmt/format.h>

namespace x_transformers {

std::string picture_terminal(const std::string& format, int width, int height) {
  if (format == "png")
    return fmt::format(
        "set encoding utf8\nset terminal pngcairo noenhanced size {},{} font 'Sans,14'\n",
        width * 3 / 2, height * 3 / 2);
  return fmt::format(
      "set encoding utf8\nset terminal svg noenhanced size {},{} font 'sans-serif,13' background "
      "rgb 'white'\n",
      width, height);
}

std::string short_name(const std::string& name) {
  constexpr size_t kLongest = 42;
  std::string text;
  for (const char c : name) text += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  if (text.size() <= kLongest) return text;
  auto end = kLongest - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

}  // namespace x_transformers
