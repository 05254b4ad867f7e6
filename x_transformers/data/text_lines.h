// Lines of text files, each with where it stands, for messages.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace x_transformers {

/// Calls `take` for each line of the file that is not empty, without its line end, and with "FILE:
/// line N". Throws InputError where the file cannot be read or has no such line.
void for_each_line(
    const std::string& path,
    const std::function<void(std::string_view line, const std::string& where)>& take);

}  // namespace x_transformers
