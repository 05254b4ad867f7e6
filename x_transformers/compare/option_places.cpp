#include "x_transformers/compare/option_places.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "x_transformers/core/nearest_name.h"
#include "x_transformers/interchange/file_models.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {
namespace {

/// attn.flash and attn_flash are one option.
std::string with_underscores(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

}  // namespace

std::string OptionPlace::path() const {
  return fmt::format("{}.{}", fmt::join(object, "."), help.name);
}

OptionPlaces::OptionPlaces(const Json& run) {
  for (auto& model : models_of_file(run.at("model"))) {
    model.keys.insert(model.keys.begin(), "model");
    add(model.keys, model.options);
  }
  for (const char* part : {"data", "train"}) add({part}, run_part_options(part));
}

void OptionPlaces::add(const std::vector<std::string>& object,
                       const std::vector<OptionHelp>& lines) {
  for (const auto& line : lines) {
    // The options within an object of data: data.task.length.
    auto within = object;
    auto help = line;
    for (auto dot = help.name.find('.'); dot != std::string::npos; dot = help.name.find('.')) {
      within.push_back(help.name.substr(0, dot));
      help.name = help.name.substr(dot + 1);
    }
    if (help.built) places_.push_back({std::move(within), std::move(help)});
  }
}

const OptionPlace& OptionPlaces::find(const std::string& name, const OptionPath& where) const {
  std::vector<const OptionPlace*> found;
  std::vector<std::string> names, paths;
  const auto wanted = with_underscores(name);
  for (const auto& place : places_) {
    const auto path = place.path();
    // As long as what was given, from the left of a key.
    const auto spelled = "." + path;
    const bool is_meant = spelled.size() > name.size() &&
                          with_underscores(spelled).ends_with(wanted) &&
                          spelled[spelled.size() - name.size() - 1] == '.';
    if (is_meant) found.push_back(&place);
    names.push_back(place.help.name);
    paths.push_back(path);
  }
  if (found.empty()) {
    Notice notice{at(where), text("unknown option '{}'", name)};
    notice.hint = nearest_hint(name, names);
    throw InputError(std::move(notice));
  }
  std::vector<std::string> several;
  for (const auto* place : found) several.push_back(place->path());
  require(found.size() == 1, at(where), "'{}' may be {}: give its path", name,
          fmt::format("{}", fmt::join(several, " or ")));
  return *found.front();
}

bool is_switch(const OptionPlace& place) {
  constexpr std::string_view kSwitch = "true or false";
  return place.help.type.starts_with(kSwitch);
}

void set_option(Json& run, const OptionPlace& place, const Json& value) {
  Json* object = &run;
  for (const auto& key : place.object) object = &(*object)[key];
  if (object->is_null()) *object = Json::object();
  const auto keys = keys_of_option(*object, place.help.name);
  keys.empty() ? (*object)[place.help.name] = value : value_at(*object, keys) = value;
}

Json option_value(const Json& run, const OptionPlace& place) {
  Json whole = run, *object = &whole;
  for (const auto& key : place.object) object = &(*object)[key];
  const auto keys =
      object->is_object() ? keys_of_option(*object, place.help.name) : std::vector<std::string>();
  if (!keys.empty()) return value_at(*object, keys);
  return Json::parse(place.help.default_value, nullptr, /*allow_exceptions=*/false);
}

}  // namespace x_transformers
