#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "x_transformers/compare/variants.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/random.h"

namespace x_transformers {
namespace {

struct SweepOptions {
  std::string method;
  std::optional<int64_t> run_cap, seeds;
  int64_t seed = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("method", method, "list, grid, random or one-at-a-time");
    v("run_cap", run_cap, "most variants");
    v("seeds", seeds, "runs of each variant");
    v("seed", seed, "of the draws of random");
  }
};

/// A parameter of a sweep: values, or a range of numbers to draw from.
struct Parameter {
  OptionPlace place;
  std::string name;
  std::vector<Json> values;
  double low = 0, high = 0;
  bool is_range = false, is_log = false, is_whole = false;

  Json draw(uint64_t bits) const {
    if (!is_range) return values.at(random_index(bits, values.size()));
    const double share = static_cast<double>(bits >> 11) * 0x1p-53;
    const double value = is_log ? low * std::pow(high / low, share) : low + (high - low) * share;
    if (is_whole) return static_cast<int64_t>(std::llround(value));
    // Three digits tell draws apart, and a name can show them.
    return Json::parse(fmt::format("{:.3g}", value));
  }
};

Parameter read_range(Parameter parameter, const Json& given, const OptionPath& where) {
  for (const auto& [key, value] : given.items()) {
    if (key != "min" && key != "max" && key != "scale")
      detail::unknown_key(where / key, {"values", "min", "max", "scale"});
  }
  for (const char* key : {"min", "max"}) {
    require(given.contains(key), at(where / key), "is needed in a range");
    if (!given[key].is_number()) detail::wrong_type(where / key, "a number", given[key]);
  }
  parameter.is_range = true;
  parameter.is_whole = given["min"].is_number_integer() && given["max"].is_number_integer();
  parameter.low = given["min"].get<double>();
  parameter.high = given["max"].get<double>();
  expect(parameter.low < parameter.high, at(where / "max"), parameter.high, "more than min = {}",
         parameter.low);
  if (!given.contains("scale")) return parameter;
  const auto& scale = given["scale"];
  if (scale != "log" && scale != "linear")
    detail::wrong_type(where / "scale", "linear or log", scale);
  parameter.is_log = scale == "log";
  expect(!parameter.is_log || parameter.low > 0, at(where / "min"), parameter.low,
         "more than 0 on a logarithmic scale");
  return parameter;
}

Parameter read_parameter(const std::string& name, const Json& given, const OptionPlaces& places,
                         const OptionPath& where, bool may_be_range) {
  Parameter parameter{places.find(name, where), name, {}};
  const Json* values = &given;
  if (given.is_object() && given.size() == 1 && given.contains("values")) values = &given["values"];
  if (values->is_array()) {
    require(!values->empty(), at(where / name), "has no values");
    parameter.values.assign(values->begin(), values->end());
    return parameter;
  }
  if (given.is_object() && may_be_range && (given.contains("min") || given.contains("max")))
    return read_range(std::move(parameter), given, where / name);
  detail::wrong_type(
      where / name,
      may_be_range ? "an array of values, or {\"min\", \"max\"}" : "an array of values", given);
}

std::string setting_name(const std::string& name, const Json& value) {
  if (value == true) return name;
  return name + "=" + (value.is_string() ? value.get<std::string>() : value.dump());
}

void add_setting(Variant& variant, const Parameter& parameter, const Json& value) {
  variant.name += (variant.name.empty() ? "" : "+") + setting_name(parameter.name, value);
  variant.settings.push_back({parameter.place, value});
}

std::vector<Variant> listed(const Json& parameters, const OptionPlaces& places,
                            const OptionPath& where) {
  if (!parameters.is_array()) detail::wrong_type(where, "an array of variants", parameters);
  std::vector<Variant> all;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& item = parameters[i];
    const auto place = list_entry(where, i);
    if (item.is_string()) {
      for (auto& variant : parse_variants(item.get<std::string>(), places, place))
        all.push_back(std::move(variant));
      continue;
    }
    if (!item.is_object() || item.empty())
      detail::wrong_type(place, "an object of options, or a text such as depth=4+ff_glu", item);
    Variant variant;
    for (const auto& [name, value] : item.items())
      add_setting(variant, {places.find(name, place), name, {}}, value);
    all.push_back(std::move(variant));
  }
  return all;
}

std::vector<Variant> grid(const std::vector<Parameter>& parameters) {
  std::vector<Variant> all(1);
  for (const auto& parameter : parameters) {
    std::vector<Variant> longer;
    for (const auto& variant : all) {
      for (const auto& value : parameter.values) {
        longer.push_back(variant);
        add_setting(longer.back(), parameter, value);
      }
    }
    all = std::move(longer);
  }
  return all;
}

std::vector<Variant> one_at_a_time(const std::vector<Parameter>& parameters) {
  std::vector<Variant> all;
  for (const auto& parameter : parameters) {
    for (const auto& value : parameter.values) {
      Variant variant;
      add_setting(variant, parameter, value);
      all.push_back(std::move(variant));
    }
  }
  return all;
}

/// Different draws, as many as there are up to `count`.
std::vector<Variant> drawn(const std::vector<Parameter>& parameters, int64_t count, int64_t seed) {
  constexpr uint64_t kTriesEach = 100;
  std::vector<Variant> all;
  std::set<std::string> names;
  uint64_t next = 0;
  for (uint64_t i = 0; i < kTriesEach * static_cast<uint64_t>(count); ++i) {
    if (std::ssize(all) == count) break;
    Variant variant;
    for (const auto& parameter : parameters)
      add_setting(variant, parameter,
                  parameter.draw(random_bits(static_cast<uint64_t>(seed), next++)));
    if (names.insert(variant.name).second) all.push_back(std::move(variant));
  }
  return all;
}

std::vector<Variant> made(const SweepOptions& options, const Json& given,
                          const OptionPlaces& places, const OptionPath& where) {
  if (options.method == "list") return listed(given, places, where);
  if (!given.is_object() || given.empty())
    detail::wrong_type(where, "an object of options and their values", given);
  std::vector<Parameter> parameters;
  for (const auto& [name, value] : given.items())
    parameters.push_back(
        read_parameter(name, value, places, where, /*may_be_range=*/options.method == "random"));
  if (options.method == "grid") return grid(parameters);
  if (options.method == "one-at-a-time") return one_at_a_time(parameters);
  return drawn(parameters, *options.run_cap, options.seed);
}

}  // namespace

Sweep read_sweep(const std::string& path, const Json& base, const OptionPlaces& places) {
  Json file = read_json_file(path);
  const OptionPath where(path + ":");
  if (!file.is_object()) detail::wrong_type(where, "an object with method and parameters", file);
  require(file.contains("parameters"), at(where / "parameters"), "is needed");
  const Json parameters = file["parameters"];
  file.erase("parameters");
  const auto options = options_from_json<SweepOptions>(file, where);
  const std::vector<std::string> methods{"list", "grid", "random", "one-at-a-time"};
  if (std::find(methods.begin(), methods.end(), options.method) == methods.end())
    detail::unknown(where / "method", "method", options.method, methods);
  for (const auto& [name, value] :
       {std::pair{"run_cap", options.run_cap}, {"seeds", options.seeds}})
    expect(value.value_or(1) > 0, at(where / name), value.value_or(1), "1 or more");
  require(options.method != "random" || options.run_cap.has_value(), at(where / "run_cap"),
          "is needed with method random");
  Sweep sweep{made(options, parameters, places, where / "parameters"), options.seeds};
  for (auto& variant : sweep.variants) variant.may_be_refused = options.method != "list";
  if (options.method != "list")
    std::erase_if(sweep.variants, [&](const auto& variant) { return is_base(variant, base); });
  if (options.run_cap && std::ssize(sweep.variants) > *options.run_cap)
    sweep.variants.resize(static_cast<size_t>(*options.run_cap));
  require(!sweep.variants.empty(), at(where / "parameters"), "has no variant that is not the base");
  return sweep;
}

}  // namespace x_transformers
