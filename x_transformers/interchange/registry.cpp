#include "x_transformers/interchange/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "x_transformers/core/unknown_key.h"
#include "x_transformers/interchange/file_models.h"
#include "x_transformers/io/known_models.h"
#include "x_transformers/nn/callable_module.h"

namespace x_transformers {
namespace {

/// In the order in which lists show the types of a group.
ModelTypes own_types() {
  ModelTypes types;
  register_transformer_wrapper(types);
  register_x_transformer(types);
  register_vision(types);
  register_continuous(types);
  register_multi_input(types);
  register_autoregressive(types);
  register_nonautoregressive(types);
  register_xl_autoregressive(types);
  register_xval(types);
  register_flash_transformer(types);
  register_zeta_transformer(types);
  register_gpt_vae(types);
  register_free_transformer(types);
  register_neo_mlp(types);
  register_belief_state(types);
  register_universal_pretrain(types);
  register_dpo(types);
  register_entropy_based_tokenizer(types);
  register_layers(types);
  register_attend(types);
  register_flash_parts(types);
  register_blocks(types);
  register_callables(types);
  register_norms(types);
  register_positions(types);
  register_residuals(types);
  register_losses(types);
  return types;
}

/// All types; those of the library can be given as modules too (token_emb, hybrid_module, ...).
ModelTypes& types() {
  static ModelTypes all = [] {
    auto own = own_types();
    for (const auto& [name, type] : own.by_name()) offer_callable(name, model_callable);
    return own;
  }();
  return all;
}

const ModelType& find_type(const std::string& name, const OptionPath& where) {
  const auto& known = types().by_name();
  const auto found = known.find(name);
  require(!is_hugging_face_class(name), at(where),
          "{} is a class of Hugging Face's transformers, and its config.json is not read; expected "
          "a class of x-transformers, such as TransformerWrapper",
          name);
  if (found == known.end()) detail::unknown(where, "type", name, model_types());
  return found->second;
}

std::string type_of(const Json& config, const OptionPath& where) {
  if (!config.is_object()) detail::wrong_type(where, "an object with a type", config);
  const auto type = config.find("type");
  require(type != config.end() && type->is_string(), at(where / "type"),
          "expected the name of a class");
  return type->get<std::string>();
}

/// Takes the keys that hold for the whole file out of `config`.
Compat take_compat(Json& config, const OptionPath& where) {
  Compat compat;
  if (!config.is_object()) return compat;
  if (config.contains("xt_compat")) {
    std::string name;
    read_value(config["xt_compat"], name, where / "xt_compat");
    compat.xt_compat = release_named(name, where / "xt_compat");
  }
  if (config.contains("python_quirks"))
    read_value(config["python_quirks"], compat.python_quirks, where / "python_quirks");
  config.erase("xt_compat");
  config.erase("python_quirks");
  return compat;
}

/// The type that nets are trained in (ModelType::wrap_net).
const std::pair<const std::string, ModelType>& net_wrapper() {
  const auto& known = types().by_name();
  const auto found = std::find_if(known.begin(), known.end(),
                                  [](const auto& item) { return item.second.wrap_net != nullptr; });
  require(found != known.end(), "no registered type trains a net that is given without a wrapper");
  return *found;
}

/// Where each option of each model in the file `config` would stand.
std::vector<OptionPath> places_of_options(const Json& config, const OptionPath& where) {
  std::vector<OptionPath> places;
  for (const auto& model : models_of_file(config)) {
    for (const auto& option : model.options)
      places.push_back(where / OptionPath(model.keys) / option.name);
  }
  return places;
}

/// Whether `value` is a model given as a value of another.
bool is_model(const Json& value) {
  return value.is_object() && value.contains("type") && value["type"].is_string() &&
         is_model_type(value["type"].get<std::string>());
}

}  // namespace

ModelType& ModelTypes::add(TypeHelp help, ModelType type) {
  const auto [added, is_new] = by_name_.emplace(help.name, std::move(type));
  require(is_new, at(help.name + ":"), "is a type already");
  help_.push_back(std::move(help));
  return added->second;
}

const char* name_of(TypeGroup group) {
  switch (group) {
    case TypeGroup::models:
      return "models";
    case TypeGroup::objectives:
      return "objectives";
    case TypeGroup::stacks:
      return "stacks";
    case TypeGroup::attention:
      return "attention";
    case TypeGroup::feed_forward:
      return "feed-forward";
    case TypeGroup::norms:
      return "norms";
    case TypeGroup::positions:
      return "positions";
    case TypeGroup::residuals:
      return "residuals";
    case TypeGroup::losses:
      return "losses";
    case TypeGroup::your_own:
      break;
  }
  return "your own";
}

std::vector<TypeHelp> model_type_help() {
  auto help = types().help();
  std::stable_sort(help.begin(), help.end(),
                   [](const TypeHelp& a, const TypeHelp& b) { return a.group < b.group; });
  return help;
}

void register_model_type(const std::string& name, ModelType type, const std::string& meaning) {
  types().add({name, TypeGroup::your_own, meaning}, std::move(type));
  offer_callable(name, model_callable);
}

std::string types_with(bool ModelType::*has) {
  std::vector<std::string> names;
  for (const auto& help : model_type_help()) {
    if (types().by_name().at(help.name).*has) names.push_back(help.name);
  }
  if (names.size() < 2) return names.empty() ? "none" : names.front();
  const auto last = std::move(names.back());
  names.pop_back();
  return fmt::format("{} and {}", fmt::join(names, ", "), last);
}

bool is_model_type(const std::string& name) { return types().by_name().count(name) > 0; }

bool may_be(const std::type_info& model_class, const Json& config, const OptionPath& where) {
  const auto& built = *find_type(type_of(config, where), where / "type").model_class;
  return built == model_class || built == typeid(Model);
}

std::shared_ptr<Model> build_part(const Json& config, const ModelPlace& place) {
  const auto name = type_of(config, place.where);
  const auto where = place.where / "type";
  auto model = find_type(name, where).build(config, place);
  model->set_compat(place.compat);
  return model;
}

std::shared_ptr<Model> build_model(const Json& config, const OptionPath& where) {
  auto own = config;
  const auto compat = take_compat(own, where);
  try {
    auto model = build_part(own, {where, compat});
    model->set_option_places([own] { return places_of_options(own, {}); });
    return model;
  } catch (const detail::UnknownKey& error) {
    throw error.with_places(places_of_options(own, where));
  }
}

bool is_net(const Json& config) {
  return find_type(type_of(config, "config"), OptionPath("config") / "type").is_net;
}

std::shared_ptr<Model> wrap_net(std::shared_ptr<Model> net) {
  const auto compat = net->compat();
  auto model = net_wrapper().second.wrap_net(std::move(net));
  model->set_compat(compat);
  return model;
}

Json wrapped_net(const Json& config) { return {{"type", net_wrapper().first}, {"net", config}}; }

Json spell_out(const Json& config) {
  const auto type = type_of(config, "config");
  auto own = config;
  const auto compat = take_compat(own, "config");
  auto spelled = find_type(type, OptionPath("config") / "type").spell_out(own);
  for (auto& value : spelled) {
    if (is_model(value)) value = spell_out(value);
  }
  spelled["type"] = type;
  if (compat != Compat()) {
    spelled["xt_compat"] = name_of(compat.xt_compat);
    spelled["python_quirks"] = compat.python_quirks;
  }
  return spelled;
}

std::set<std::string> free_options(const Json& config) {
  const auto& type = find_type(type_of(config, "config"), OptionPath("config") / "type");
  auto own = config;
  take_compat(own, "config");
  auto places = type.free_options(own);
  const auto spelled = type.spell_out(own);
  for (const auto& [key, value] : spelled.items()) {
    if (!is_model(value)) continue;
    for (const auto& place : free_options(value)) places.insert("/" + key + place);
  }
  return places;
}

std::vector<std::string> model_types() {
  std::vector<std::string> names;
  for (const auto& [name, type] : types().by_name()) names.push_back(name);
  return names;
}

std::vector<OptionHelp> model_options(const std::string& type) {
  return find_type(type, "options").help();
}

void require_forward(const std::string& type, const std::string& method) {
  require(method == "forward", at(type + ":"), "has no method '{}'", method);
}

}  // namespace x_transformers
