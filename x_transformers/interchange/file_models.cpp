#include "x_transformers/interchange/file_models.h"

#include <utility>

#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers {
namespace {

std::string type_in(const Json& value) {
  const bool has_type = value.is_object() && value.contains("type") && value["type"].is_string();
  return has_type ? value["type"].get<std::string>() : "";
}

/// The type of the model that is given as an option that must be; empty: it is no model.
std::string type_of_required(const OptionHelp& option, const Json& value) {
  if (!option.required || !value.is_object()) return {};
  const auto type = type_in(value);
  if (!type.empty()) return type;
  return type_in(Json::parse(option.default_value, nullptr, /*allow_exceptions=*/false));
}

void add_models(const Json& config, const std::string& type, const std::vector<std::string>& keys,
                std::vector<FileModel>& found) {
  if (!is_model_type(type)) return;
  const auto options = model_options(type);
  found.push_back({keys, options});
  for (const auto& option : options) {
    const auto inner = keys_of_option(config, option.name);
    if (inner.empty()) continue;
    const auto& value = value_at(config, inner);
    auto all = keys;
    all.insert(all.end(), inner.begin(), inner.end());
    add_models(value, type_of_required(option, value), all, found);
  }
}

}  // namespace

std::vector<FileModel> models_of_file(const Json& config) {
  std::vector<FileModel> found;
  add_models(config, type_in(config), {}, found);
  return found;
}

std::vector<std::string> keys_of_option(const Json& object, const std::string& name) {
  if (object.contains(name)) return {name};
  for (size_t at = name.find('_'); at != std::string::npos; at = name.find('_', at + 1)) {
    const auto prefix = name.substr(0, at);
    const auto inner = object.find(prefix);
    if (inner == object.end() || !inner->is_object() || inner->contains("type")) continue;
    auto keys = keys_of_option(*inner, name.substr(at + 1));
    if (keys.empty()) continue;
    keys.insert(keys.begin(), prefix);
    return keys;
  }
  return {};
}

const Json& value_at(const Json& object, const std::vector<std::string>& keys) {
  const Json* value = &object;
  for (const auto& key : keys) value = &value->at(key);
  return *value;
}

Json& value_at(Json& object, const std::vector<std::string>& keys) {
  return const_cast<Json&>(value_at(std::as_const(object), keys));  // NOLINT: object is not const
}

}  // namespace x_transformers
