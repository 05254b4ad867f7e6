// The field list of an options struct.
//
// Every options struct of the library is a plain aggregate with one member function that names each
// of its fields once:
//
//   template <class Visitor> void fields(Visitor& v) {
//     v.required("dim", dim, "features");  // must be given
//     v.size("heads", heads, "attention heads");  // a size, not an idea to do without
//     v("qk_norm", qk_norm, "l2-normalise queries and keys", "arXiv:2010.04245");
//     v.free("dropout", dropout, "dropout of the output");  // weights do not depend on it
//     // ff_glu or ff: {glu}, less the fields that the owner sets.
//     v.prefix("ff", ff, "feed-forward", {"dim"});
//     // enc_kwargs: {glu}: an object of its own that starts as a copy of other options.
//     v.overlay("enc_kwargs", enc_kwargs, layers, "of the encoder alone", {"dim"});
//     // A Python parameter that is refused until it exists.
//     v.not_built("gate_residual");
//   }
//
// Reading and writing JSON (core/json_options.h), help (core/option_help.h) and comparison
// (core/option_names.h) are visitors over that list, classes of FieldVisitor.
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

/// What a field list says of a field.
struct FieldInfo {
  const char* name = "";  ///< without the prefixes of its owners
  const char* meaning = "";
  const char* paper = "";
  bool is_required = false;  ///< must be given
  bool is_size = false;      ///< a size of the model, not an idea that it could do without
  bool is_free = false;      ///< a run may go on with another value: weights mean the same
};

/// Base of the visitors of field lists. `Visitor` has
///   template <class T> void field(const FieldInfo& info, T& member);
/// which is called for each field that no owner leaves out; `key(info.name)` is the option as a
/// file spells it. Options with a prefix are fields like any other, and those in an object of their
/// own are one field, unless the visitor has a prefix, prefix_over, overlay or not_built of its
/// own.
template <class Visitor>
class FieldVisitor {
 public:
  template <class T>
  void operator()(const char* name, T& member, const char* meaning, const char* paper = "") {
    visit({.name = name, .meaning = meaning, .paper = paper}, member);
  }
  template <class T>
  void required(const char* name, T& member, const char* meaning, const char* paper = "") {
    visit({.name = name, .meaning = meaning, .paper = paper, .is_required = true}, member);
  }
  template <class T>
  void size(const char* name, T& member, const char* meaning, const char* paper = "") {
    visit({.name = name, .meaning = meaning, .paper = paper, .is_size = true}, member);
  }
  template <class T>
  void free(const char* name, T& member, const char* meaning, const char* paper = "") {
    visit({.name = name, .meaning = meaning, .paper = paper, .is_free = true}, member);
  }
  template <class T>
  void required_free(const char* name, T& member, const char* meaning, const char* paper = "") {
    visit({.name = name, .meaning = meaning, .paper = paper, .is_required = true, .is_free = true},
          member);
  }
  template <class T>
  void prefix(const char* name, T& member, const char*,
              std::initializer_list<const char*> left_out = {}) {
    const auto outer = std::exchange(scope_, {scope_.prefix + name + "_", left_out});
    member.fields(self());
    scope_ = outer;
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>&, const T& base, const char* meaning,
                   std::initializer_list<const char*> left_out = {}) {
    T copy = base;
    self().prefix(name, copy, meaning, left_out);
  }
  template <class T>
  void overlay(const char* name, std::optional<T>& member, const T&, const char* meaning,
               std::initializer_list<const char*> = {}) {
    visit({.name = name, .meaning = meaning}, member);
  }
  void not_built(const char*) {}

  template <class T>
  void visit(const FieldInfo& info, T& member) {
    if (!is_left_out(info.name)) self().field(info, member);
  }

 protected:
  std::string key(const char* name) const { return scope_.prefix + name; }
  bool is_left_out(const char* name) const { return scope_.left_out.count(name) > 0; }
  /// Fields of these names are left out of the list that is visited next.
  void leave_out(std::initializer_list<const char*> names) {
    scope_.left_out = {names.begin(), names.end()};
  }

 private:
  struct Scope {
    Scope() = default;
    Scope(std::string given, std::initializer_list<const char*> names)
        : prefix(std::move(given)), left_out(names.begin(), names.end()) {}
    std::string prefix;
    std::set<std::string> left_out;
  };

  Visitor& self() { return static_cast<Visitor&>(*this); }

  Scope scope_;
};

namespace detail {
/// Takes any field list; used to ask whether a type has one.
struct AnyVisitor : FieldVisitor<AnyVisitor> {
  template <class T>
  void field(const FieldInfo&, T&) {}
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
class FieldsWithout : public FieldVisitor<FieldsWithout<Visitor>> {
 public:
  FieldsWithout(Visitor& visitor, std::initializer_list<const char*> names) : visitor_(visitor) {
    this->leave_out(names);
  }

  template <class T>
  void field(const FieldInfo& info, T& member) {
    visitor_.visit(info, member);
  }
  template <class T>
  void prefix(const char* name, T& member, const char* meaning,
              std::initializer_list<const char*> left_out = {}) {
    if (!this->is_left_out(name)) visitor_.prefix(name, member, meaning, left_out);
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>& member, const T& base, const char* meaning,
                   std::initializer_list<const char*> left_out = {}) {
    if (!this->is_left_out(name)) visitor_.prefix_over(name, member, base, meaning, left_out);
  }
  template <class T>
  void overlay(const char* name, std::optional<T>& member, const T& base, const char* meaning,
               std::initializer_list<const char*> left_out = {}) {
    if (!this->is_left_out(name)) visitor_.overlay(name, member, base, meaning, left_out);
  }
  void not_built(const char* name) {
    if (!this->is_left_out(name)) visitor_.not_built(name);
  }

 private:
  Visitor& visitor_;
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
