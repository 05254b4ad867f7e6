// The lines of `x-transformers options` about an options struct, by its field list.
#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/json_options.h"

namespace x_transformers {

/// One line of `x-transformers options`.
struct OptionHelp {
  std::string name, type, default_value, meaning, paper;
  bool built = true;
  bool required = false;
  bool is_size = false;     ///< how large a model is: no idea that it could be without
  bool has_default = true;  ///< false: where it is not given, another option's value stands for it
};

/// Visitor that lists the fields for help.
class HelpWriter {
 public:
  template <class T>
  void operator()(const char* name, T& member, const char* meaning, const char* paper = "") {
    if (skipped_.count(name)) return;
    lines.push_back(
        {prefix_ + name, detail::type_word<T>(), value_to_json(member).dump(), meaning, paper});
  }
  template <class T>
  void required(const char* name, T& member, const char* meaning, const char* paper = "") {
    if (skipped_.count(name)) return;
    (*this)(name, member, meaning, paper);
    lines.back().required = true;
  }
  template <class T>
  void size(const char* name, T& member, const char* meaning, const char* paper = "") {
    if (skipped_.count(name)) return;
    (*this)(name, member, meaning, paper);
    lines.back().is_size = true;
  }
  template <class T>
  void prefix(const char* name, T& member, const char*,
              std::initializer_list<const char*> skipped = {}) {
    const auto outer_prefix = prefix_;
    const auto outer_skipped = skipped_;
    prefix_ += std::string(name) + "_";
    skipped_ = {skipped.begin(), skipped.end()};
    member.fields(*this);
    prefix_ = outer_prefix;
    skipped_ = outer_skipped;
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>&, const T& base, const char* meaning,
                   std::initializer_list<const char*> skipped = {}) {
    T copy = base;
    const auto first = lines.size();
    prefix(name, copy, meaning, skipped);
    for (auto i = first; i < lines.size(); ++i) lines[i].has_default = false;
  }
  template <class T>
  void overlay(const char* name, std::optional<T>&, const T&, const char* meaning,
               std::initializer_list<const char*> = {}) {
    if (!skipped_.count(name)) lines.push_back({prefix_ + name, "an object", "{}", meaning, ""});
  }
  void not_built(const char* name) {
    lines.push_back({prefix_ + name, "", "", "not built yet", "", false});
  }

  std::vector<OptionHelp> lines;

 private:
  std::string prefix_;
  std::set<std::string> skipped_;
};

/// The help lines of an options struct.
template <Options T>
std::vector<OptionHelp> options_help() {
  T options{};
  HelpWriter writer;
  options.fields(writer);
  return writer.lines;
}

}  // namespace x_transformers
