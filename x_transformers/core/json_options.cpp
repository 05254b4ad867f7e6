#include "x_transformers/core/json_options.h"

#include <utility>

#include "x_transformers/core/nearest_name.h"
#include "x_transformers/core/options_to_come.h"
#include "x_transformers/core/types_to_come.h"
#include "x_transformers/core/unknown_key.h"

namespace x_transformers::detail {

void unknown(const OptionPath& where, const std::string& word, const std::string& name,
             const std::vector<std::string>& known) {
  require(!types_to_come().count(name), at(where), "{}: not built yet", name);
  Notice notice{at(where), "unknown " + word + " '" + name + "'"};
  notice.hint = word == "argument" && is_argument_to_come(name)
                    ? "of x-transformers 2.31.10, and not built yet"
                    : nearest_hint(name, known);
  throw InputError(std::move(notice));
}

void unknown_key(const OptionPath& where, const std::vector<std::string>& known,
                 const std::vector<std::string>& elsewhere) {
  std::vector<OptionPath> places;
  for (const auto& path : elsewhere) {
    auto place = where.without_back();
    for (size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
      end = path.find('.', begin);
      place = place / path.substr(begin, end - begin);
    }
    places.push_back(std::move(place));
  }
  throw UnknownKey(where, known, places);
}

void wrong_type(const OptionPath& where, const std::string& expected, const Json& got) {
  throw InputError(Notice{at(where), {}, expected, shown(got)});
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

}  // namespace x_transformers::detail
