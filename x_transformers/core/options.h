// The field list of an options struct.
//
// Every options struct of the library is a plain aggregate with one member function that names each
// of its fields once:
//
//   template <class Visitor> void fields(Visitor& v) {
//     v.required("dim", dim, "features");  // must be given
//     v.size("heads", heads, "attention heads");  // how large, not an idea to be without
//     v("qk_norm", qk_norm, "l2-normalise queries and keys", "arXiv:2010.04245");
//     // ff_glu or ff: {glu}, less the fields that the owner sets.
//     v.prefix("ff", ff, "feed-forward", {"dim"});
//     // enc_kwargs: {glu}: an object of its own that starts as a copy of other options.
//     v.overlay("enc_kwargs", enc_kwargs, layers, "of the encoder alone", {"dim"});
//     // A Python parameter that is refused until it exists.
//     v.not_built("gate_residual");
//   }
//
// Reading and writing JSON (core/json_options.h), help (core/option_help.h) and comparison
// (core/option_names.h) are visitors over that list.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace x_transformers {

namespace detail {
/// Accepts any call that a field list makes; used to ask whether a type has one.
struct AnyVisitor {
  template <class T>
  void operator()(const char*, T&, const char*, const char* = "") {}
  template <class T>
  void required(const char*, T&, const char*, const char* = "") {}
  template <class T>
  void size(const char*, T&, const char*, const char* = "") {}
  template <class T>
  void prefix(const char*, T&, const char*, std::initializer_list<const char*> = {}) {}
  template <class T>
  void prefix_over(const char*, std::optional<T>&, const T&, const char*,
                   std::initializer_list<const char*> = {}) {}
  template <class T>
  void overlay(const char*, std::optional<T>&, const T&, const char*,
               std::initializer_list<const char*> = {}) {}
  void not_built(const char*) {}
};
}  // namespace detail

/// A struct with a field list.
template <class T>
concept Options = requires(T& options, detail::AnyVisitor& visitor) {
  options.fields(visitor);
};

/// Options that stand for one of several Python classes, told apart by "type".
template <class T>
concept TypedOptions = Options<T> && requires(T& options, const std::string& name) {
  {T::type_names()};
  {options.set_type(name)};
  {options.type_name()};
};

/// Visitor of a field list less the fields that its owner sets, where it has the list as its own:
///   FieldsWithout rest(v, {"depth"});
///   layers.fields(rest);
template <class Visitor>
class FieldsWithout {
 public:
  FieldsWithout(Visitor& visitor, std::set<std::string> left_out)
      : visitor_(visitor), left_out_(std::move(left_out)) {}

  template <class T>
  void operator()(const char* name, T& member, const char* meaning, const char* paper = "") {
    if (takes(name)) visitor_(name, member, meaning, paper);
  }
  template <class T>
  void required(const char* name, T& member, const char* meaning, const char* paper = "") {
    if (takes(name)) visitor_.required(name, member, meaning, paper);
  }
  template <class T>
  void size(const char* name, T& member, const char* meaning, const char* paper = "") {
    if (takes(name)) visitor_.size(name, member, meaning, paper);
  }
  template <class T>
  void prefix(const char* name, T& member, const char* meaning,
              std::initializer_list<const char*> skipped = {}) {
    if (takes(name)) visitor_.prefix(name, member, meaning, skipped);
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>& member, const T& base, const char* meaning,
                   std::initializer_list<const char*> skipped = {}) {
    if (takes(name)) visitor_.prefix_over(name, member, base, meaning, skipped);
  }
  template <class T>
  void overlay(const char* name, std::optional<T>& member, const T& base, const char* meaning,
               std::initializer_list<const char*> left_out = {}) {
    if (takes(name)) visitor_.overlay(name, member, base, meaning, left_out);
  }
  void not_built(const char* name) {
    if (takes(name)) visitor_.not_built(name);
  }

 private:
  bool takes(const char* name) const { return left_out_.count(name) == 0; }

  Visitor& visitor_;
  std::set<std::string> left_out_;
};

/// One value for all layers, or one for each (Python's `value or tuple`).
template <class T>
struct PerLayer {
  std::vector<T> values;

  PerLayer(T value = T()) : values{value} {}  // NOLINT: one value is the common case
  PerLayer(std::vector<T> each) : values(std::move(each)) {}  // NOLINT

  bool uniform() const { return values.size() == 1; }
  T at(size_t layer) const { return uniform() ? values[0] : values.at(layer); }
  bool operator==(const PerLayer&) const = default;
};

/// A module given as a value, as in `custom_activation`: a type's name and its keyword arguments as
/// JSON text.
struct ModuleSpec {
  std::string type;
  std::string arguments = "{}";

  bool operator==(const ModuleSpec&) const = default;
};

/// A function given as a value, as in `custom_attn_fn`: in JSON a module as above, from C++ any
/// callable.
template <class Signature>
struct FunctionSpec : ModuleSpec {
  std::function<Signature> function = nullptr;

  FunctionSpec() = default;
  FunctionSpec(ModuleSpec spec)
      : ModuleSpec(std::move(spec)) {}  // NOLINT: a named module is a function
  template <class F>
  requires std::constructible_from<std::function<Signature>, F> FunctionSpec(F callable)
      : function(std::move(callable)) {}  // NOLINT: so is a callable
};

/// The options of a type that has none.
struct NoOptions {
  template <class Visitor>
  void fields(Visitor&) {}
};

}  // namespace x_transformers
