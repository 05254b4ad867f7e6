#include "x_transformers/core/json.h"

#include <algorithm>
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

}  // namespace

std::string shown(const Json& value) {
  constexpr size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

std::string nearest_hint(const std::string& key, const std::vector<std::string>& known) {
  if (known.empty()) return "";
  const auto nearest = std::min_element(
      known.begin(), known.end(),
      [&](const auto& a, const auto& b) { return edit_distance(key, a) < edit_distance(key, b); });
  return "; the nearest known one is '" + *nearest + "'";
}

void wrong_type(const std::string& where, const std::string& expected, const Json& got) {
  throw InputError(where + ": expected " + expected + ", got " + shown(got));
}

ModuleSpec read_module(const Json& value, const std::string& where) {
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_object() || !value.contains("type") || !value["type"].is_string()) {
    wrong_type(where, type_word<ModuleSpec>(), value);
  }
  Json arguments = value;
  arguments.erase("type");
  return {value["type"].get<std::string>(), arguments.dump()};
}

}  // namespace detail

Json parse_json(const std::string& text) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto key = value.get<std::string>();
      require(keys.back().insert(key).second, "key '" + key + "' is given twice");
    }
    return true;
  };
  return Json::parse(text, watch);
}

std::string parse_reason(const Json::parse_error& error) {
  constexpr size_t kLongest = 60;
  const std::string reason = error.what(), quote = "last read: '";
  const auto found = reason.find(quote);
  if (found == std::string::npos) return reason;
  const auto begin = found + quote.size(), end = std::max(reason.rfind('\''), begin);
  if (end - begin <= kLongest) return reason;
  // The end of what was read is where the error is.
  return reason.substr(0, begin) + "..." + reason.substr(end - kLongest);
}

Json read_json_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), path + ": cannot be read");
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
                     ": not valid JSON: " + parse_reason(error));
  }
}

}  // namespace x_transformers
