// The lines of `x-transformers options` about an options struct, by its field list.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/json_options.h"

namespace x_transformers {

/// One line of `x-transformers options`.
struct OptionHelp {
  std::string name = {}, type = {}, default_value = {}, meaning = {}, paper = {};
  bool built = true;
  bool required = false;
  bool is_size = false;     ///< a size of the model, not an idea that it could do without
  bool has_default = true;  ///< false: where it is not given, another option's value stands for it
};

/// Visitor that lists the fields for help.
class HelpWriter : public FieldVisitor<HelpWriter> {
 public:
  template <class T>
  void field(const FieldInfo& info, T& member) {
    lines.push_back({.name = key(info.name),
                     .type = detail::type_word<T>(),
                     .default_value = value_to_json(member).dump(),
                     .meaning = info.meaning,
                     .paper = info.paper,
                     .required = info.is_required,
                     .is_size = info.is_size});
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>&, const T& base, const char* meaning,
                   std::initializer_list<const char*> left_out = {}) {
    T copy = base;
    const auto first = lines.size();
    prefix(name, copy, meaning, left_out);
    for (auto i = first; i < lines.size(); ++i) lines[i].has_default = false;
  }
  template <class T>
  void overlay(const char* name, std::optional<T>&, const T&, const char* meaning,
               std::initializer_list<const char*> = {}) {
    if (is_left_out(name)) return;
    lines.push_back(
        {.name = key(name), .type = "an object", .default_value = "{}", .meaning = meaning});
  }
  void not_built(const char* name) {
    lines.push_back({.name = key(name), .meaning = "not built yet", .built = false});
  }

  std::vector<OptionHelp> lines;
};

/// The help lines of an options struct, of which `options` has the defaults.
template <Options T>
std::vector<OptionHelp> options_help(T options = {}) {
  HelpWriter writer;
  options.fields(writer);
  return writer.lines;
}

}  // namespace x_transformers
