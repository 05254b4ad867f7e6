// The names in the field list of an options struct.
#pragma once

#include <concepts>
#include <map>
#include <set>
#include <string>

#include "x_transformers/core/options.h"

namespace x_transformers {

namespace detail {

/// Visitor that collects the fields by name.
struct FieldCollector : FieldVisitor<FieldCollector> {
  std::map<std::string, const void*> fields = {};

  template <class T>
  void field(const FieldInfo& info, T& member) {
    fields.emplace(key(info.name), &member);
  }
};

template <Options T>
bool differ(const T& a, const T& b);
template <class T>
bool differ(const T& a, const T& b) {
  return !(a == b);
}

/// Visitor that compares a struct with another of the same type and collects the names of the
/// fields that differ. `others` are the fields of the other one by name, as FieldCollector has
/// them. Structs with prefix_over cannot be compared: it shows the collector a temporary copy,
/// whose address is of no use later.
class DifferenceCollector : public FieldVisitor<DifferenceCollector> {
 public:
  explicit DifferenceCollector(const std::map<std::string, const void*>& others)
      : others_(others) {}

  template <class T>
  void field(const FieldInfo& info, T& member) {
    const auto name = key(info.name);
    if (differ(member, *static_cast<const T*>(others_.at(name)))) names.insert(name);
  }

  std::set<std::string> names = {};

 private:
  const std::map<std::string, const void*>& others_;
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
  detail::DifferenceCollector differences(others.fields);
  a.fields(differences);
  return differences.names;
}

template <Options T>
bool detail::differ(const T& a, const T& b) {
  return !differing_options(a, b).empty();
}

}  // namespace x_transformers
