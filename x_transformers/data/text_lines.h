// Lines of text files, each with where it stands, for messages.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace x_transformers {

/// Where a line stands.
struct TextPlace {
  const std::string& path;
  int64_t line;  ///< from 1

  /// "FILE: line N"
  std::string shown() const;
};

/// Calls `take` for each line of the file that is not empty, without its line end; the first one
/// without the mark of UTF-8 that some programs begin files with. Throws InputError where the file
/// cannot be read or has no such line.
void for_each_line(const std::string& path,
                   const std::function<void(std::string_view line, const TextPlace& where)>& take);

}  // namespace x_transformers
