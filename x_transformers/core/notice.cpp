#include "x_transformers/core/notice.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "x_transformers/core/utf8.h"

namespace x_transformers {
namespace {

std::string joined_from(const std::vector<std::string>& names, size_t first) {
  std::string path;
  for (size_t i = first; i < names.size(); ++i) {
    if (i > first) path += path.ends_with(':') ? " " : ".";
    path += names[i];
  }
  return path;
}

/// `path` as the beginning of a line.
std::string heading(const OptionPath& path) {
  const auto joined = path.joined();
  return joined.empty() || joined.ends_with(':') ? joined : joined + ":";
}

/// The names that all paths begin with, but for the last of each, which is an option's own.
OptionPath common_parent(const std::vector<OptionPath>& paths) {
  if (paths.empty()) return {};
  auto parent = paths.front().without_back();
  for (const auto& path : paths) {
    const auto names = parent.names();
    const auto count = static_cast<std::ptrdiff_t>(parent.common_with(path.without_back()));
    parent = OptionPath(std::vector<std::string>(names.begin(), names.begin() + count));
  }
  return parent;
}

/// `path` as one reads it within the object `parent`.
std::string seen_from(const OptionPath& parent, const OptionPath& path) {
  const auto common = path.without_back().common_with(parent);
  return joined_from(path.names(), common);
}

std::string rendered(const Text& text, const OptionPath& parent) {
  std::string line;
  for (const auto& piece : text.pieces()) {
    const auto* path = std::get_if<OptionPath>(&piece);
    line += path ? seen_from(parent, *path) : std::get<std::string>(piece);
  }
  return line;
}

/// a, b and c
std::string listed(const std::vector<OptionPath>& paths, const OptionPath& parent) {
  std::string line;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (i > 0) line += i + 1 == paths.size() ? " and " : ", ";
    line += seen_from(parent, paths[i]);
  }
  return line;
}

/// What stands before the text.
std::string subject(const std::vector<OptionPath>& paths, const OptionPath& parent) {
  if (paths.empty()) return {};
  if (paths.size() == 1) return heading(paths.front()) + " ";
  return heading(parent) + (parent.empty() ? "" : " ") + listed(paths, parent) + ": ";
}

/// `text` with what would end the line, steer a terminal or be no UTF-8 escaped.
std::string in_one_line(const std::string& text) {
  std::string line;
  for (size_t at = 0; at < text.size();) {
    const int length = utf8_length(text, at);
    if (length > 1) {
      line.append(text, at, static_cast<size_t>(length));
      at += static_cast<size_t>(length);
      continue;
    }
    const char c = text[at++];
    if (length == 1 && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) {
      line += c;
    } else if (c == '\n' || c == '\t' || c == '\r') {
      line += c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r";
    } else {
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return line;
}

void add_named(const Text& text, std::vector<OptionPath>& found) {
  for (const auto& piece : text.pieces()) {
    if (const auto* path = std::get_if<OptionPath>(&piece)) found.push_back(*path);
  }
}

}  // namespace

OptionPath::OptionPath(std::string name) {
  if (!name.empty()) names_.push_back(std::move(name));
}

OptionPath OptionPath::without_front() const {
  return names_.empty() ? *this
                        : OptionPath(std::vector<std::string>(names_.begin() + 1, names_.end()));
}

OptionPath OptionPath::without_back() const {
  return names_.empty() ? *this
                        : OptionPath(std::vector<std::string>(names_.begin(), names_.end() - 1));
}

OptionPath OptionPath::with_front(const std::string& name) const {
  return OptionPath(name) / without_front();
}

OptionPath OptionPath::within_file() const {
  const auto last = std::find_if(names_.rbegin(), names_.rend(),
                                 [](const std::string& name) { return name.ends_with(':'); });
  return OptionPath(std::vector<std::string>(last.base(), names_.end()));
}

size_t OptionPath::common_with(const OptionPath& other) const {
  const auto differs =
      std::mismatch(names_.begin(), names_.end(), other.names_.begin(), other.names_.end());
  return static_cast<size_t>(differs.first - names_.begin());
}

std::string OptionPath::joined() const { return joined_from(names_, 0); }

OptionPath operator/(const OptionPath& outer, const OptionPath& inner) {
  auto names = outer.names();
  names.insert(names.end(), inner.names().begin(), inner.names().end());
  return OptionPath(std::move(names));
}

OptionPath list_entry(const OptionPath& list, size_t index) {
  auto names = list.names();
  const auto place = "[" + std::to_string(index) + "]";
  if (names.empty()) return OptionPath(place);
  names.back() += place;
  return OptionPath(std::move(names));
}

Text::Text(std::string plain) {
  if (!plain.empty()) pieces_.emplace_back(std::move(plain));
}

Text Text::filled(std::string_view pattern, const std::vector<Text>& texts) {
  constexpr std::string_view kPlace = "{}";
  Text all;
  for (const auto& text : texts) {
    const auto end = pattern.find(kPlace);
    all = all + Text(std::string(pattern.substr(0, end))) + text;
    pattern.remove_prefix(end + kPlace.size());
  }
  return all + Text(std::string(pattern));
}

Text operator+(const Text& a, const Text& b) {
  auto pieces = a.pieces();
  for (const auto& piece : b.pieces()) {
    const auto* plain = std::get_if<std::string>(&piece);
    auto* before = pieces.empty() ? nullptr : std::get_if<std::string>(&pieces.back());
    if (plain && before) {
      *before += *plain;
    } else {
      pieces.push_back(piece);
    }
  }
  return Text(std::move(pieces));
}

Text joined(const std::vector<Text>& texts, std::string_view separator) {
  Text all;
  for (const auto& text : texts)
    all = all + (all.empty() ? Text() : Text(std::string(separator))) + text;
  return all;
}

std::string detail::shown_number(double value) { return fmt::format("{}", value); }

std::vector<OptionPath> Notice::named() const {
  auto found = about.options;
  add_named(text, found);
  add_named(expected, found);
  add_named(hint, found);
  return found;
}

std::string Notice::line() const {
  const auto parent = common_parent(about.options);
  auto line = subject(about.options, parent) + rendered(text, parent);
  if (!expected.empty()) {
    line += "expected " + rendered(expected, parent);
    if (given) line += ", got " + *given;
  }
  const bool says_more = !text.empty() || !expected.empty();
  if (!cause.empty()) line += (says_more ? ": " : "") + cause;
  if (!hint.empty()) line += "; " + rendered(hint, parent);
  return in_one_line(line);
}

}  // namespace x_transformers
