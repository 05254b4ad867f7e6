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
//     // A Python parameter that is refused until it exists.
//     v.not_built("gate_residual");
//   }
//
// Reading and writing JSON, help and comparison (core/json.h) are visitors over that list.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
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
