#include "x_transformers/data/text_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "x_transformers/core/error.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {

std::string TextPlace::shown() const { return fmt::format("{}: line {}", path, line); }

void for_each_line(const std::string& path,
                   const std::function<void(std::string_view line, const TextPlace& where)>& take) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";
  const auto file = open_file(path);
  require_text(file);
  bool has_lines = false;
  int64_t number = 0;
  for (size_t begin = file.bytes.starts_with(kMark) ? kMark.size() : 0;
       begin < file.bytes.size();) {
    const size_t end = std::min(file.bytes.find('\n', begin), file.bytes.size());
    auto line = file.bytes.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    has_lines = true;
    take(line, {path, number});
  }
  require(has_lines, at(path + ":"), "is empty, expected lines of text");
}

}  // namespace x_transformers
