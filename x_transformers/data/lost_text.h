// Text that a tokenizer does not give back.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {

/// Characters of a text, and how many of them decode(encode(text)) lacks, by what they are.
struct LostText {
  int64_t characters = 0;
  int64_t line_ends = 0, tabs = 0, spaces = 0, others = 0;  ///< lost ones
  int64_t marks = 0;  ///< lost ones of kSpaceMark, which no sentencepiece vocabulary gives back

  int64_t lost() const { return line_ends + tabs + spaces + others + marks; }
  void operator+=(const LostText& more);
};

/// What `tokenizer` loses of `text`. A character that comes back as another counts as lost, too.
LostText lost_text(std::string_view text, const Tokenizer& tokenizer);

/// What it loses of a sample of `files`, half a megabyte from places all over them.
LostText lost_of_sample(const std::vector<FileContents>& files, const Tokenizer& tokenizer);

/// What a tokenizer loses of a file of examples, of a sample of its lines.
class LostOfLines {
 public:
  /// Of a file at `path`: half a megabyte from lines all over it.
  LostOfLines(const std::string& path, const Tokenizer& tokenizer);
  /// The texts of the next line.
  void add(std::initializer_list<std::string_view> texts);
  const LostText& lost() const { return lost_; }

 private:
  const Tokenizer& tokenizer_;
  int64_t stride_ = 1;  ///< of lines that are looked at; 0: none is
  int64_t line_ = 0;
  LostText lost_;
};

/// Which share is lost, of data.tokenizer, and how all of it would be kept; nothing: none is.
std::optional<Notice> notice_of(const LostText& lost);

}  // namespace x_transformers
