// The names in the field list of an options struct.
#pragma once

#include <concepts>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "x_transformers/core/options.h"

namespace x_transformers {

namespace detail {

/// Visitor that collects the fields by name.
struct FieldCollector {
  std::map<std::string, const void*> fields;
  std::string prefix_so_far = {};

  template <class T>
  void operator()(const char* name, T& member, const char*, const char* = "") {
    fields.emplace(prefix_so_far + name, &member);
  }
  template <class T>
  void required(const char* name, T& member, const char* meaning, const char* = "") {
    (*this)(name, member, meaning);
  }
  template <class T>
  void size(const char* name, T& member, const char* meaning, const char* = "") {
    (*this)(name, member, meaning);
  }
  template <class T>
  void prefix(const char* name, T& member, const char*,
              std::initializer_list<const char*> skipped = {}) {
    FieldCollector inner{{}, prefix_so_far + name + "_"};
    member.fields(inner);
    for (const char* each : skipped) inner.fields.erase(inner.prefix_so_far + each);
    fields.merge(inner.fields);
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>&, const T& base, const char* meaning,
                   std::initializer_list<const char*> skipped = {}) {
    T copy = base;
    prefix(name, copy, meaning, skipped);
  }
  template <class T>
  void overlay(const char* name, std::optional<T>& member, const T&, const char* meaning,
               std::initializer_list<const char*> = {}) {
    (*this)(name, member, meaning);
  }
  void not_built(const char*) {}
};

template <Options T>
bool differ(const T& a, const T& b);
template <class T>
bool differ(const T& a, const T& b) {
  return !(a == b);
}

/// Visitor that collects the names of fields whose value is not that of `others`, which are the
/// fields of another struct of the type. For structs without prefixes.
struct DifferenceCollector {
  const std::map<std::string, const void*>& others;
  std::set<std::string> names = {};

  template <class T>
  void operator()(const char* name, T& member, const char*, const char* = "") {
    if (differ(member, *static_cast<const T*>(others.at(name)))) names.insert(name);
  }
  template <class T>
  void required(const char* name, T& member, const char* meaning, const char* = "") {
    (*this)(name, member, meaning);
  }
  template <class T>
  void size(const char* name, T& member, const char* meaning, const char* = "") {
    (*this)(name, member, meaning);
  }
  void not_built(const char*) {}
};

}  // namespace detail

/// The names of an options struct as a file spells them.
template <Options T>
std::set<std::string> option_names(T options) {
  detail::FieldCollector collector;
  options.fields(collector);
  std::set<std::string> names;
  for (const auto& [name, field] : collector.fields) names.insert(name);
  return names;
}

/// The names of the options whose values differ between `a` and `b`.
template <Options T>
std::set<std::string> differing_options(T a, T b) {
  detail::FieldCollector others;
  b.fields(others);
  detail::DifferenceCollector differences{others.fields};
  a.fields(differences);
  return differences.names;
}

template <Options T>
bool detail::differ(const T& a, const T& b) {
  return !differing_options(a, b).empty();
}

}  // namespace x_transformers
