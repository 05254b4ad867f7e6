// Options from and to JSON, by their field lists.
#pragma once

#include <algorithm>
#include <concepts>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/option_names.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

namespace detail {

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsPerLayer : std::false_type {};
template <class T>
struct IsPerLayer<PerLayer<T>> : std::true_type {};
template <class T>
struct IsMap : std::false_type {};
template <class T>
struct IsMap<std::map<std::string, T>> : std::true_type {};

/// What a field of type T takes, in words.
template <class T>
std::string type_word() {
  if constexpr (std::same_as<T, bool>)
    return "true or false";
  else if constexpr (std::integral<T>)
    return "an integer";
  else if constexpr (std::floating_point<T>)
    return "a number";
  else if constexpr (std::same_as<T, std::string>)
    return "a string";
  else if constexpr (std::derived_from<T, ModuleSpec>)
    return "a module's name, or an object with its type";
  else if constexpr (IsOptional<T>::value)
    return type_word<typename T::value_type>() + " or null";
  else if constexpr (IsVector<T>::value)
    return "an array of " + type_word<typename T::value_type>();
  else if constexpr (IsMap<T>::value)
    return "an object of " + type_word<typename T::mapped_type>();
  else if constexpr (IsPerLayer<T>::value) {
    using Item = typename decltype(T::values)::value_type;
    return type_word<Item>() + ", or an array with one for each layer";
  } else
    return "an object";
}

/// Throws InputError for a `word` (type, filter, ...) that is none of those `known`: Python's class
/// of that name is not built yet (core/types_to_come.h), or there is none.
[[noreturn]] void unknown(const OptionPath& where, const std::string& word, const std::string& name,
                          const std::vector<std::string>& known);
/// Throws InputError for the key at `where`, which is none of those `known` there. `elsewhere` has
/// keys of other objects, by their paths.
[[noreturn]] void unknown_key(const OptionPath& where, const std::vector<std::string>& known,
                              const std::vector<std::string>& elsewhere = {});
[[noreturn]] void wrong_type(const OptionPath& where, const std::string& expected, const Json& got);
ModuleSpec read_module(const Json& value, const OptionPath& where);

}  // namespace detail

template <Options T>
T options_from_json(const Json& value, const OptionPath& where);
template <Options T>
Json options_to_json(const T& options, bool only_changed = false);

/// Reads `value` into `out`; throws InputError that names `where` and what was expected.
template <class T>
void read_value(const Json& value, T& out, const OptionPath& where) {
  if constexpr (std::same_as<T, bool>) {
    if (!value.is_boolean() && !value.is_null())
      detail::wrong_type(where, detail::type_word<T>(), value);
    out = value == true;  // null is Python's None, which is false
  } else if constexpr (std::integral<T>) {
    if (!value.is_number_integer()) detail::wrong_type(where, detail::type_word<T>(), value);
    const bool fits = !value.is_number_unsigned() || std::in_range<T>(value.get<uint64_t>());
    if (!fits) detail::wrong_type(where, detail::type_word<T>(), value);
    out = value.get<T>();
  } else if constexpr (std::floating_point<T>) {
    if (!value.is_number()) detail::wrong_type(where, detail::type_word<T>(), value);
    out = value.get<T>();
  } else if constexpr (std::same_as<T, std::string>) {
    if (!value.is_string()) detail::wrong_type(where, detail::type_word<T>(), value);
    out = value.get<std::string>();
  } else if constexpr (std::derived_from<T, ModuleSpec>) {
    out = T{detail::read_module(value, where)};
  } else if constexpr (detail::IsOptional<T>::value) {
    if (value.is_null()) {
      out.reset();
    } else {
      read_value(value, out.emplace(), where);
    }
  } else if constexpr (detail::IsVector<T>::value) {
    if (!value.is_array()) detail::wrong_type(where, detail::type_word<T>(), value);
    out.clear();
    for (size_t i = 0; i < value.size(); ++i) {
      typename T::value_type item{};
      read_value(value[i], item, list_entry(where, i));
      out.push_back(std::move(item));
    }
  } else if constexpr (detail::IsMap<T>::value) {
    if (!value.is_object()) detail::wrong_type(where, detail::type_word<T>(), value);
    out.clear();
    for (const auto& [key, item] : value.items()) read_value(item, out[key], where / key);
  } else if constexpr (detail::IsPerLayer<T>::value) {
    if (value.is_array()) {
      read_value(value, out.values, where);
      if (out.values.empty()) detail::wrong_type(where, "at least one value", value);
    } else {
      out.values.resize(1);
      typename decltype(out.values)::value_type item{};
      read_value(value, item, where);
      out.values[0] = item;
    }
  } else {
    out = options_from_json<T>(value, where);
  }
}

template <class T>
Json value_to_json(const T& value) {
  if constexpr (detail::IsOptional<T>::value) {
    return value ? value_to_json(*value) : Json();
  } else if constexpr (detail::IsPerLayer<T>::value) {
    return value.uniform() ? value_to_json(value.values[0]) : value_to_json(value.values);
  } else if constexpr (detail::IsVector<T>::value) {
    Json array = Json::array();
    for (typename T::value_type item : value) array.push_back(value_to_json(item));
    return array;
  } else if constexpr (std::derived_from<T, ModuleSpec>) {
    if constexpr (requires { value.function; }) {
      require(!value.type.empty(),
              "a function given from C++ without a name cannot be written as JSON");
    }
    Json object = Json::parse(value.arguments);
    object["type"] = value.type;
    return object;
  } else if constexpr (Options<T>) {
    return options_to_json(value, /*only_changed=*/true);
  } else {
    return Json(value);
  }
}

namespace detail {

/// Visitor that lists the options of the objects within, by their paths: attn_layers.depth.
class InnerNames : public FieldVisitor<InnerNames> {
 public:
  std::vector<std::string> paths = {};

  template <class T>
  void field(const FieldInfo& info, T&) {
    if constexpr (IsOptional<T>::value) {
      add<typename T::value_type>(info.name);
    } else {
      add<T>(info.name);
    }
  }
  template <class T>
  void prefix(const char*, T&, const char*, std::initializer_list<const char*> = {}) {}
  template <class T>
  void prefix_over(const char*, std::optional<T>&, const T&, const char*,
                   std::initializer_list<const char*> = {}) {}

 private:
  template <class T>
  void add(const std::string& name) {
    if constexpr (Options<T>) {
      for (const auto& inner : option_names(T{}))
        paths.emplace_back(name).append(".").append(inner);
    }
  }
};

template <Options T>
std::vector<std::string> inner_names() {
  T options{};
  InnerNames names;
  options.fields(names);
  return names.paths;
}

}  // namespace detail

/// Visitor that fills options from a JSON object and remembers which keys it used.
class JsonReader : public FieldVisitor<JsonReader> {
 public:
  JsonReader(const Json& object, OptionPath where) : object_(object), where_(std::move(where)) {}

  template <class T>
  void field(const FieldInfo& info, T& member) {
    const auto name = key(info.name);
    if (info.is_required) required_.push_back(name);
    known_.push_back(name);
    const auto found = object_.find(name);
    if (found == object_.end()) return;
    used_.insert(name);
    give(name);
    read_value(*found, member, where_ / name);
  }

  template <class T>
  void prefix(const char* name, T& member, const char* meaning,
              std::initializer_list<const char*> left_out = {}) {
    // Both spellings: attn_flash, and attn: {flash}.
    const auto whole = key(name);
    const auto found = object_.find(whole);
    if (found != object_.end()) {
      const auto nested = read_object(whole, *found, member, left_out);
      for (const auto& given : nested.given_) give(std::string(whole).append("_").append(given));
    }
    FieldVisitor::prefix(name, member, meaning, left_out);
  }

  /// Like prefix, for options that start as a copy of `base` when any of their keys is given.
  template <class T>
  void prefix_over(const char* name, std::optional<T>& member, const T& base, const char* meaning,
                   std::initializer_list<const char*> left_out = {}) {
    T copy = member.value_or(base);
    const auto before = used_.size();
    prefix(name, copy, meaning, left_out);
    if (used_.size() != before) member = std::move(copy);
  }

  /// Options in an object of their own, which start as a copy of `base`.
  template <class T>
  void overlay(const char* name, std::optional<T>& member, const T& base, const char*,
               std::initializer_list<const char*> left_out = {}) {
    if (is_left_out(name)) return;
    const auto whole = key(name);
    known_.push_back(whole);
    const auto found = object_.find(whole);
    if (found == object_.end()) return;
    give(whole);
    member = base;
    read_object(whole, *found, *member, left_out);
  }

  void not_built(const char* name) {
    const auto whole = key(name);
    const auto found = object_.find(whole);
    if (found == object_.end()) return;
    used_.insert(whole);
    const bool is_off =
        found->is_null() || *found == false || (found->is_object() && found->empty());
    require(is_off, at(where_ / whole), "not built yet");
  }

  /// Throws InputError for a key that no field took; `inner_names` lists those of the objects
  /// within.
  void finish(std::vector<std::string> (*inner_names)()) const {
    for (const auto& [name, value] : object_.items()) {
      if (name == "type" || used_.count(name)) continue;
      detail::unknown_key(where_ / name, known_, inner_names());
    }
  }

  /// Throws InputError for an option that must be given and is not, in either spelling.
  void require_all() const {
    for (const auto& name : required_)
      require(given_.count(name) > 0, at(where_ / name), "is needed");
  }

 private:
  /// Reads the object `value` that stands at the option `name`.
  template <class T>
  JsonReader read_object(const std::string& name, const Json& value, T& member,
                         std::initializer_list<const char*> left_out) {
    if (!value.is_object()) detail::wrong_type(where_ / name, "an object", value);
    used_.insert(name);
    JsonReader nested(value, where_ / name);
    nested.leave_out(left_out);
    member.fields(nested);
    nested.finish(detail::inner_names<T>);
    return nested;
  }

  /// Throws InputError where both spellings of an option are given.
  void give(const std::string& name) {
    require(given_.insert(name).second, at(where_ / name),
            "given twice, once in an object of its own");
  }

  const Json& object_;
  OptionPath where_;
  std::set<std::string> used_;
  std::set<std::string> given_;  // options as they are spelled without objects
  std::vector<std::string> known_, required_;
};

/// Visitor that writes options as a JSON object.
class JsonWriter : public FieldVisitor<JsonWriter> {
 public:
  explicit JsonWriter(Json& object) : object_(object) {}

  template <class T>
  void field(const FieldInfo& info, T& member) {
    const auto name = key(info.name);
    object_[name] = value_to_json(member);
    if (info.is_required) required_.insert(name);
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>& member, const T&, const char* meaning,
                   std::initializer_list<const char*> left_out = {}) {
    if (member) prefix(name, *member, meaning, left_out);
  }
  template <class T>
  void overlay(const char* name, std::optional<T>& member, const T&, const char*,
               std::initializer_list<const char*> left_out = {}) {
    if (!member || is_left_out(name)) return;
    Json object = Json::object();
    JsonWriter nested(object);
    nested.leave_out(left_out);
    member->fields(nested);
    object_[key(name)] = std::move(object);
  }
  bool is_required(const std::string& name) const { return required_.count(name) > 0; }

 private:
  Json& object_;
  std::set<std::string> required_;
};

/// Visitor that collects the places, as JSON pointers, of the options that weights do not depend on
/// (FieldInfo::is_free) in what options_to_json writes.
class FreePlaces : public FieldVisitor<FreePlaces> {
 public:
  explicit FreePlaces(std::set<std::string>& places, std::string above = "")
      : places_(places), above_(std::move(above)) {}

  template <class T>
  void field(const FieldInfo& info, T& member) {
    const auto place = above_ + "/" + key(info.name);
    if (info.is_free) {
      places_.insert(place);
    } else {
      look_into(place, member);
    }
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>& member, const T&, const char* meaning,
                   std::initializer_list<const char*> left_out = {}) {
    if (member) prefix(name, *member, meaning, left_out);
  }

 private:
  template <class T>
  void look_into(const std::string& place, T& value) {
    if constexpr (detail::IsOptional<T>::value) {
      if (value) look_into(place, *value);
    } else if constexpr (detail::IsVector<T>::value) {
      if constexpr (Options<typename T::value_type>) {
        for (size_t i = 0; i < value.size(); ++i)
          look_into(place + "/" + std::to_string(i), value[i]);
      }
    } else if constexpr (Options<T>) {
      FreePlaces inner(places_, place);
      value.fields(inner);
    }
  }

  std::set<std::string>& places_;
  std::string above_;
};

/// Where in `options_to_json(options)` stand options that weights do not depend on, as JSON
/// pointers. All that stands below one of them is free as well.
template <Options T>
std::set<std::string> free_places(T options) {
  std::set<std::string> places;
  FreePlaces visitor(places);
  options.fields(visitor);
  return places;
}

/// Options from a JSON object. Unknown keys, wrong types and unknown "type"s are InputErrors with
/// the path (`where` and below) and the nearest known key.
template <Options T>
T options_from_json(const Json& value, const OptionPath& where) {
  if (!value.is_object()) detail::wrong_type(where, "an object", value);
  T options{};
  if constexpr (TypedOptions<T>) {
    const auto type = value.find("type");
    if (type != value.end()) {
      const auto names = T::type_names();
      if (!type->is_string()) detail::wrong_type(where / "type", "a string", *type);
      const auto name = type->template get<std::string>();
      if (std::find(names.begin(), names.end(), name) == names.end())
        detail::unknown(where / "type", "type", name, names);
      options.set_type(name);
    }
  }
  JsonReader reader(value, where);
  options.fields(reader);
  reader.finish(detail::inner_names<T>);
  reader.require_all();
  return options;
}

/// The options as a JSON object in Python's spelling; `only_changed` leaves out defaults.
template <Options T>
Json options_to_json(const T& options, bool only_changed) {
  T copy = options;
  Json object = Json::object();
  JsonWriter writer(object);
  copy.fields(writer);
  if (only_changed) {
    T defaults{};
    Json usual = Json::object();
    JsonWriter usual_writer(usual);
    defaults.fields(usual_writer);
    for (const auto& [key, value] : usual.items()) {
      if (usual_writer.is_required(key)) continue;
      if (object.contains(key) && object[key] == value) object.erase(key);
    }
  }
  if constexpr (TypedOptions<T>) object["type"] = options.type_name();
  return object;
}

}  // namespace x_transformers
