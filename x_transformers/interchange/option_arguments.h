// Options that a call takes as arguments, by their field list.
#pragma once

#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "x_transformers/core/options.h"
#include "x_transformers/interchange/arguments.h"

namespace x_transformers {

/// Visitor that takes those of an options struct's fields that a call gives. null is an argument
/// that is not given.
class OptionTaker : public FieldVisitor<OptionTaker> {
 public:
  explicit OptionTaker(Arguments& arguments) : arguments_(arguments) {}

  template <class T>
  void field(const FieldInfo& info, T& member) {
    if constexpr (std::same_as<T, int64_t>) {
      if (info.is_required) {
        member = arguments_.required_integer(info.name);
        return;
      }
    }
    take(info.name, member);
  }

 private:
  void take(const char* name, bool& member) { member = arguments_.flag(name, member); }
  void take(const char* name, int64_t& member) {
    member = arguments_.integer(name).value_or(member);
  }
  void take(const char* name, double& member) { member = arguments_.number(name).value_or(member); }
  void take(const char* name, std::string& member) {
    member = arguments_.text(name).value_or(member);
  }
  void take(const char* name, std::optional<int64_t>& member) { member = arguments_.integer(name); }
  void take(const char* name, std::optional<double>& member) { member = arguments_.number(name); }
  void take(const char* name, std::optional<std::string>& member) {
    member = arguments_.text(name);
  }
  void take(const char* name, std::map<std::string, double>& member) {
    member = arguments_.numbers_by_key(name);
  }

  Arguments& arguments_;
};

/// The options of type T that a call gives, with defaults for the others.
template <Options T>
T take_options(Arguments& arguments) {
  T options;
  OptionTaker taker(arguments);
  options.fields(taker);
  return options;
}

}  // namespace x_transformers
