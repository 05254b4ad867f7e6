// Text as UTF-8.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace x_transformers {

/// Whether `byte` goes on a character that a byte before has begun.
bool is_utf8_continuation(char byte);

/// Bytes of the UTF-8 sequence at `text[at]`: 0 when it is invalid, -1 when it is cut off by the
/// end.
int utf8_length(std::string_view text, size_t at);

/// The offset of the first byte of `text` that is not valid UTF-8, if there is one.
std::optional<size_t> find_invalid_utf8(std::string_view text);

}  // namespace x_transformers
