#include "x_transformers/core/json.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace detail {
namespace {

/// `key` for a message: ASCII, and short however long a file makes it.
std::string quoted(const Json& key) {
  constexpr size_t kLongest = 60;
  const auto text = key.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

}  // namespace

std::string shown(const Json& value) {
  constexpr size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

}  // namespace detail

namespace {

/// What `text`, which is not JSON, may be in place of it, by what stands before byte `end`, where
/// its parser gave up; empty: not known.
std::string other_language(std::string_view text, size_t end) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return "it is empty";
  const auto last = text.find_last_not_of(" \t\r\n", std::min(end, text.size()) - 1);
  if (end == 0 || last == std::string_view::npos) return {};
  for (const char* word : {"True", "False", "None"}) {
    if (text.substr(last).starts_with(word)) return "JSON has true, false and null for Python's";
  }
  if (text[last] == '\'') return "JSON puts names and texts in double quotes";
  if (text[last] == '#' || text[last] == '/') return "JSON has no comments";
  const auto before =
      last == 0 ? std::string_view::npos : text.find_last_not_of(" \t\r\n", last - 1);
  const bool is_closed = text[last] == '}' || text[last] == ']';
  if (is_closed && before != std::string_view::npos && text[before] == ',')
    return "no comma stands before a closing bracket";
  return {};
}

Notice not_valid(const Json::exception& error, std::string_view text) {
  auto notice = caused({}, "not valid JSON", cause_of(error));
  if (const auto* wrong = dynamic_cast<const Json::parse_error*>(&error))
    notice.hint = other_language(text, wrong->byte);
  return notice;
}

}  // namespace

Json parse_json(std::string_view text, int deepest) {
  using Event = Json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, Event event, Json& value) {
    if (event == Event::object_start || event == Event::array_start)
      require(depth < deepest, "nested too deeply");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key) {
      require(keys.back().insert(value.get<std::string>()).second,
              "key " + detail::quoted(value) + " is given twice");
    }
    return true;
  };
  return Json::parse(text, watch);
}

Json parse_json_argument(std::string_view text, const OptionPath& where) {
  return spelled(below(where), [&] {
    try {
      return parse_json(text);
    } catch (const Json::exception& error) {
      throw InputError(not_valid(error, text));
    }
  });
}

Json read_json_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError(caused(at(path + ":"), "cannot be read", cause_of_errno(errno)));
  require(!std::filesystem::is_directory(path), at(path + ":"),
          "is a folder, expected a JSON file");
  std::stringstream content;
  content << file.rdbuf();
  const auto text = content.str();
  try {
    return spelled(below(path + ":"), [&] { return parse_json(text); });
  } catch (const Json::parse_error& error) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(error.byte, text.size()));
    const auto line = 1 + std::count(text.begin(), end, '\n');
    throw InputError(below(path + ":" + std::to_string(line) + ":")(not_valid(error, text)));
  } catch (const Json::exception& error) {
    throw InputError(below(path + ":")(not_valid(error, text)));
  }
}

}  // namespace x_transformers
