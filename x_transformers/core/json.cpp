#include "x_transformers/core/json.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

namespace x_transformers {
namespace detail {
namespace {

/// Levenshtein distance.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

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

std::string nearest(const std::string& key, const std::vector<std::string>& known) {
  if (known.empty()) return "";
  const auto found = std::min_element(
      known.begin(), known.end(),
      [&](const auto& a, const auto& b) { return edit_distance(key, a) < edit_distance(key, b); });
  return "the nearest known one is '" + *found + "'";
}

std::string nearest_hint(const std::string& key, const std::vector<std::string>& known) {
  const auto hint = nearest(key, known);
  return hint.empty() ? "" : "; " + hint;
}

void unknown(const OptionPath& where, const std::string& word, const std::string& name,
             const std::vector<std::string>& known) {
  Notice notice{at(where), "unknown " + word + " '" + name + "'"};
  notice.hint = nearest(name, known);
  throw InputError(std::move(notice));
}

void wrong_type(const OptionPath& where, const std::string& expected, const Json& got) {
  throw InputError(Notice{at(where), {}, expected, shown(got)});
}

OptionPath entry(const OptionPath& where, size_t index) {
  auto names = where.names();
  const auto place = "[" + std::to_string(index) + "]";
  if (names.empty()) return OptionPath(place);
  names.back() += place;
  return OptionPath(std::move(names));
}

ModuleSpec read_module(const Json& value, const OptionPath& where) {
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_object() || !value.contains("type") || !value["type"].is_string()) {
    wrong_type(where, type_word<ModuleSpec>(), value);
  }
  Json arguments = value;
  arguments.erase("type");
  return {value["type"].get<std::string>(), arguments.dump()};
}

std::string reason(const Json::exception& error) {
  constexpr size_t kLongestQuotation = 60;
  std::string text = error.what();
  const auto name_end = text.find("] ");
  if (text.starts_with("[json.exception.") && name_end != std::string::npos)
    text.erase(0, name_end + 2);
  const auto quote = text.find('\'');
  if (quote == std::string::npos) return text;
  const auto begin = quote + 1, end = std::max(text.rfind('\''), begin);
  if (end - begin <= kLongestQuotation) return text;
  // The end of what was read is where the error is.
  return text.substr(0, begin) + "..." + text.substr(end - kLongestQuotation);
}

}  // namespace detail

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

Json parse_json_argument(std::string_view text, const std::string& where) {
  try {
    return parse_json(text);
  } catch (const InputError& error) {
    throw InputError(where + ": " + error.what());
  } catch (const Json::exception& error) {
    throw InputError(where + ": not valid JSON: " + detail::reason(error));
  }
}

Json read_json_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), path + ": cannot be read");
  require(!std::filesystem::is_directory(path), path + ": is a folder, expected a JSON file");
  std::stringstream text;
  text << file.rdbuf();
  try {
    return parse_json(text.str());
  } catch (const InputError& error) {
    throw InputError(path + ": " + error.what());
  } catch (const Json::parse_error& error) {
    const auto content = text.str();
    const auto end =
        content.begin() + static_cast<std::ptrdiff_t>(std::min(error.byte, content.size()));
    const auto line = 1 + std::count(content.begin(), end, '\n');
    throw InputError(path + ":" + std::to_string(line) +
                     ": not valid JSON: " + detail::reason(error));
  } catch (const Json::exception& error) {
    throw InputError(path + ": not valid JSON: " + detail::reason(error));
  }
}

}  // namespace x_transformers
