#include "x_transformers/data/text_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "x_transformers/core/error.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {

void for_each_line(
    const std::string& path,
    const std::function<void(std::string_view line, const std::string& where)>& take) {
  const auto file = open_file(path);
  require_text(file);
  bool has_lines = false;
  int64_t number = 0;
  for (size_t begin = 0; begin < file.bytes.size();) {
    const size_t end = std::min(file.bytes.find('\n', begin), file.bytes.size());
    auto line = file.bytes.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    has_lines = true;
    take(line, fmt::format("{}: line {}", path, number));
  }
  require(has_lines, path + ": is empty, expected lines of text");
}

}  // namespace x_transformers
