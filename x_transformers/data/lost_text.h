// Text that a tokenizer does not give back.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {

/// Characters of a text, and how many of them decode(encode(text)) lacks, by what they are.
struct LostText {
  int64_t characters = 0;
  int64_t line_ends = 0, tabs = 0, blanks = 0, others = 0;  ///< lost ones

  int64_t lost() const { return line_ends + tabs + blanks + others; }
  void operator+=(const LostText& more);
};

/// What `tokenizer` loses of `text`. A character that comes back as another counts as lost, too.
LostText lost_text(std::string_view text, const Tokenizer& tokenizer);

/// What it loses of a sample of `files`, half a megabyte from places all over them.
LostText lost_of_sample(const std::vector<FileContents>& files, const Tokenizer& tokenizer);

/// Which share is lost, of data.tokenizer, and how all of it would be kept; nothing: none is.
std::optional<Notice> notice_of(const LostText& lost);

}  // namespace x_transformers
