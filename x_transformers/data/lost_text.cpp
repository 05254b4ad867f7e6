#include "x_transformers/data/lost_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "x_transformers/core/utf8.h"

namespace x_transformers {
namespace {

// The size of a sample.
constexpr size_t kSamplePlaces = 32, kSamplePiece = size_t{16} << 10;

/// How often each character stands in a text; a wrong byte is a character.
std::unordered_map<std::string_view, int64_t> count_characters(std::string_view text) {
  std::unordered_map<std::string_view, int64_t> counts;
  for (size_t at = 0; at < text.size();) {
    const auto length = static_cast<size_t>(std::max(utf8_length(text, at), 1));
    ++counts[text.substr(at, length)];
    at += length;
  }
  return counts;
}

int64_t& kind_of(LostText& lost, std::string_view character) {
  if (character == kSpaceMark) return lost.marks;
  switch (character.front()) {
    case '\n':
    case '\r':
      return lost.line_ends;
    case '\t':
      return lost.tabs;
    case ' ':
      return lost.spaces;
    default:
      return lost.others;
  }
}

/// The place after the first line end from `at` on, but not `limit` or more bytes away.
size_t next_line(std::string_view text, size_t at, size_t limit) {
  if (at == 0 || at >= text.size()) return std::min(at, text.size());
  const auto found = text.substr(at, limit).find('\n');
  if (found != std::string_view::npos) return at + found + 1;
  while (at < text.size() && is_utf8_continuation(text[at])) ++at;
  return at;
}

std::string percent(int64_t part, int64_t whole) {
  const auto share = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  return share < 0.1 ? "less than 0.1%" : fmt::format("{:.1f}%", share);
}

}  // namespace

void LostText::operator+=(const LostText& more) {
  characters += more.characters;
  line_ends += more.line_ends;
  tabs += more.tabs;
  spaces += more.spaces;
  others += more.others;
  marks += more.marks;
}

LostText lost_text(std::string_view text, const Tokenizer& tokenizer) {
  const auto back = tokenizer.decode(tokenizer.encode(text));
  const auto before = count_characters(text), after = count_characters(back);
  LostText lost;
  for (const auto& [character, count] : before) {
    lost.characters += count;
    const auto found = after.find(character);
    const auto kept = found == after.end() ? 0 : found->second;
    kind_of(lost, character) += std::max<int64_t>(count - kept, 0);
  }
  return lost;
}

LostText lost_of_sample(const std::vector<FileContents>& files, const Tokenizer& tokenizer) {
  size_t bytes = 0;
  for (const auto& file : files) bytes += file.bytes.size();
  LostText lost;
  if (bytes <= kSamplePlaces * kSamplePiece) {
    for (const auto& file : files) lost += lost_text(file.bytes, tokenizer);
    return lost;
  }
  const size_t stride = bytes / kSamplePlaces;
  size_t start = 0, next = 0;  // of the file, and of the piece, in the row of all files
  for (const auto& file : files) {
    for (; next < start + file.bytes.size(); next += stride) {
      const auto begin = next_line(file.bytes, next - start, kSamplePiece);
      const auto end = next_line(file.bytes, begin + kSamplePiece, kSamplePiece);
      lost += lost_text(file.bytes.substr(begin, end - begin), tokenizer);
    }
    start += file.bytes.size();
  }
  return lost;
}

LostOfLines::LostOfLines(const std::string& path, const Tokenizer& tokenizer)
    : tokenizer_(tokenizer) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  constexpr auto kSample = static_cast<uintmax_t>(kSamplePlaces * kSamplePiece);
  stride_ = error || tokenizer.name() == "bytes"
                ? 0
                : static_cast<int64_t>(std::max<uintmax_t>(bytes / kSample, 1));
}

void LostOfLines::add(std::initializer_list<std::string_view> texts) {
  if (stride_ == 0 || line_++ % stride_ != 0) return;
  for (const auto text : texts) lost_ += lost_text(text, tokenizer_);
}

std::optional<Notice> notice_of(const LostText& lost) {
  if (lost.lost() == 0) return std::nullopt;
  const std::pair<std::string, int64_t> kinds[] = {{"line ends", lost.line_ends},
                                                   {"tabs", lost.tabs},
                                                   {"spaces", lost.spaces},
                                                   {std::string(kSpaceMark), lost.marks},
                                                   {"others", lost.others}};
  std::vector<std::string> shares;
  for (const auto& [name, count] : kinds) {
    if (count > 0) shares.push_back(fmt::format("{} {}", name, percent(count, lost.characters)));
  }
  Notice notice{
      at(OptionPath("data") / "tokenizer"),
      text("{} of the characters do not come back from its tokens ({})",
           percent(lost.lost(), lost.characters), fmt::format("{}", fmt::join(shares, ", ")))};
  const auto mark =
      text("{} is sentencepiece's own mark of a space, and comes back as one", kSpaceMark);
  if (lost.lost() == lost.marks) {
    notice.hint = mark;
    return notice;
  }
  notice.hint = text(
      "a vocabulary of `x-transformers tokenizer train` keeps all of them{}, and so does one of "
      "sentencepiece with normalization_rule_name=identity, remove_extra_whitespaces=false and "
      "byte_fallback=true",
      lost.marks > 0 ? fmt::format(" but {}", kSpaceMark) : "");
  return notice;
}

}  // namespace x_transformers
