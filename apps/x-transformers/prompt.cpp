#include "apps/x-transformers/prompt.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>

#include "apps/x-transformers/arguments.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/data/token_dataset.h"
#include "x_transformers/data/token_file.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

std::string_view without_blanks(std::string_view text) {
  const auto begin = std::min(text.find_first_not_of(kBlanks), text.size());
  text.remove_prefix(begin);
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

/// `text` for a message.
std::string shown(std::string_view text) {
  constexpr size_t kLongest = 60;
  return text.size() <= kLongest ? std::string(text)
                                 : std::string(text.substr(0, kLongest)) + "...";
}

}  // namespace

std::vector<int64_t> parse_ids(std::string_view text, const OptionPath& where) {
  auto rest = without_blanks(text);
  const bool is_list = rest.starts_with('[');
  expect(is_list == rest.ends_with(']'), at(where), shown(rest), "both brackets or none");
  if (is_list) rest = without_blanks(rest.substr(1, rest.size() - 2));
  std::vector<int64_t> ids;
  bool follows_comma = false;
  while (!rest.empty() || follows_comma) {
    const auto word = rest.substr(0, rest.find_first_of(", \t\r\n"));
    expect(!word.empty(), at(where), shown(without_blanks(text)),
           "an id before and after each comma, as in 12,7,9");
    int64_t id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    expect(error == std::errc() && end == word.data() + word.size(), at(where), shown(word),
           "token ids, as in 12,7,9");
    ids.push_back(id);
    rest = without_blanks(rest.substr(word.size()));
    follows_comma = rest.starts_with(',');
    if (follows_comma) rest = without_blanks(rest.substr(1));
  }
  return ids;
}

std::vector<int64_t> read_ids(const std::string& path) {
  if (!is_token_file(path)) return parse_ids(read_text(path), path + ":");
  const auto file = open_file(path);
  const auto tokens = read_token_file(file);
  const TokenDataset all({{file.owner, tokens.data, tokens.size, tokens.dtype, path}},
                         std::numeric_limits<int64_t>::max());
  std::vector<int64_t> ids(static_cast<size_t>(all.size()));
  all.read(0, all.size(), ids.data());
  return ids;
}

std::string piped_text() {
  struct stat input {};
  if (fstat(STDIN_FILENO, &input) != 0) return "";
  if (!S_ISFIFO(input.st_mode) && !S_ISREG(input.st_mode)) return "";
  constexpr int kMilliseconds = 3000;
  pollfd waited{STDIN_FILENO, POLLIN, 0};
  if (poll(&waited, 1, kMilliseconds) <= 0) {
    std::fprintf(stderr,
                 "x-transformers: nothing came on standard input; --prompt-file - waits for it\n");
    return "";
  }
  return read_text(kStandardInput);
}

}  // namespace x_transformers
