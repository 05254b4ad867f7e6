// What `generate` goes on from: token ids as they are typed or in a file, text from a pipe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Token ids separated by commas or spaces, perhaps in brackets. InputError names `where`.
std::vector<int64_t> parse_ids(std::string_view text, const OptionPath& where);

/// The ids in a file: text, or a token file.
std::vector<int64_t> read_ids(const std::string& path);

/// What a pipe or a file on standard input has; empty: there is none. A pipe on which nothing comes
/// may be one that the caller of this program left open.
std::string piped_text();

}  // namespace x_transformers
