// The field list of an inputs struct.
//
// Every inputs struct of the library is a plain aggregate that names each of its inputs once, as
// an options struct names its options (core/options.h):
//
//   template <class Self, class Visitor> static void fields(Self& self, Visitor& v) {
//     v("condition", self.condition,
//       {.kind = TensorKind::floating,
//        .axes = {Axis::batch, optional(Axis::tokens), Axis::dim_condition},
//        .beside_cache = BesideCache::cut});
//     // The name in a file belongs to what this is made of.
//     v.made("rotary_pos_emb", self.rotary, {...});
//     // What is no tensor: a flag, a number, a list of numbers.
//     v.value("detach_additional_kv", self.detach_additional_kv);
//     // An inputs struct within, less the fields that the owner sets.
//     v.nested(self.layers, {"mask"});
//   }
//
// An input is a tensor, or a list, a pair or a map of tensors, or a struct whose `tensors(self,
// visit)` hands over each. Checking shapes, counting and reordering batch entries, cutting to the
// tokens of a step, keeping what a call needs, dropping what nothing reads and taking tensors from
// files are visitors over that list. Rules that relate several inputs to each other are code beside
// the struct.
#pragma once

#include <ATen/core/Tensor.h>

#include <any>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "x_transformers/core/input_field.h"
#include "x_transformers/core/tensor_check.h"

namespace x_transformers {

namespace detail {

template <class F>
void each_tensor(const at::Tensor& t, F& f) {
  if (t.defined()) f(t);
}
template <class F>
void each_tensor(at::Tensor& t, F& f) {
  if (t.defined()) f(t);
}
template <class T, class F>
void each_tensor(const std::vector<T>& items, F& f) {
  for (const auto& item : items) each_tensor(item, f);
}
template <class T, class F>
void each_tensor(std::vector<T>& items, F& f) {
  for (auto& item : items) each_tensor(item, f);
}
template <class Pair, class F>
requires requires(Pair& p) { p.first, p.second; }
void each_tensor(Pair& pair, F& f) {
  each_tensor(pair.first, f);
  each_tensor(pair.second, f);
}
template <class F>
void each_tensor(const std::map<std::string, at::Tensor>& items, F& f) {
  for (const auto& [key, item] : items) each_tensor(item, f);
}
template <class F>
void each_tensor(std::map<std::string, at::Tensor>& items, F& f) {
  for (auto& [key, item] : items) each_tensor(item, f);
}
template <class T, class F>
requires requires(T& t, F& f) { T::tensors(t, f); }
void each_tensor(T& t, F& f) { T::tensors(t, f); }
template <class T, class F>
void each_tensor(std::optional<T>& t, F& f) {
  if (t) each_tensor(*t, f);
}
template <class T, class F>
void each_tensor(const std::optional<T>& t, F& f) {
  if (t) each_tensor(*t, f);
}
template <class T, class F>
void each_tensor(T* const& t, F& f) {
  if (t) each_tensor(*t, f);
}

/// Visitor that hands each tensor that is given to f(name, tensor, field); `goes_within`: also
/// those of inputs structs within.
template <class F, bool goes_within = false>
struct TensorVisitor {
  F& f;

  template <class T>
  void operator()(const char* name, T& member, const InputField& field) {
    auto visit = [&](auto& t) { f(name, t, field); };
    each_tensor(member, visit);
  }
  template <class T>
  void made(const char* name, T& member, const InputField& field) {
    (*this)(name, member, field);
  }
  template <class T>
  void value(const char*, T&, const InputField& = {}) {}
  template <class T>
  void nested(T& inner, std::initializer_list<const char*>) {
    if constexpr (goes_within) std::remove_const_t<T>::fields(inner, *this);
  }
};

/// Visitor that asks `is_wanted(name, field)` of each input that is given, values among them, and
/// those of inputs structs within.
template <class F>
struct GivenVisitor {
  F& is_wanted;
  bool found = false;

  template <class T>
  void operator()(const char* name, T& member, const InputField& field) {
    bool is_given = false;
    auto note = [&](const at::Tensor&) { is_given = true; };
    each_tensor(member, note);
    found = found || (is_given && is_wanted(name, field));
  }
  template <class T>
  void made(const char* name, T& member, const InputField& field) {
    (*this)(name, member, field);
  }
  template <class T>
  void value(const char*, T&, const InputField& = {}) {}
  template <class T>
  void value(const char* name, std::optional<T>& member, const InputField& field = {}) {
    found = found || (member.has_value() && is_wanted(name, field));
  }
  template <class T>
  void value(const char* name, const std::optional<T>& member, const InputField& field = {}) {
    found = found || (member.has_value() && is_wanted(name, field));
  }
  template <class T>
  void nested(T& inner, std::initializer_list<const char*>) {
    std::remove_const_t<T>::fields(inner, *this);
  }
};

}  // namespace detail

/// Calls f(name, tensor, field) for each tensor that is given, but not for those of an inputs
/// struct within.
template <class Inputs, class F>
void each_input(Inputs& inputs, F f) {
  detail::TensorVisitor<F> visitor{f};
  Inputs::fields(inputs, visitor);
}
/// The same with those of inputs structs within.
template <class Inputs, class F>
void each_input_within(Inputs& inputs, F f) {
  detail::TensorVisitor<F, /*goes_within=*/true> visitor{f};
  Inputs::fields(inputs, visitor);
}

/// Whether something is given, be it a tensor or a value, of which is_wanted(name, field) is true.
template <class Inputs, class F>
bool any_given(const Inputs& inputs, F is_wanted) {
  detail::GivenVisitor<F> visitor{is_wanted};
  Inputs::fields(inputs, visitor);
  return visitor.found;
}

/// How many entries there are along each axis, where that is known.
class AxisSizes {
 public:
  AxisSizes() { sizes_.fill(kAnySize); }
  int64_t& operator[](Axis axis) { return sizes_[static_cast<size_t>(axis)]; }
  int64_t operator[](Axis axis) const { return sizes_[static_cast<size_t>(axis)]; }

 private:
  std::array<int64_t, kAxes> sizes_;
};

/// The place, from the end, of the dimension of `t` that has an entry for each of `axis`; 0: none.
int64_t find_axis(const at::Tensor& t, const InputField& field, Axis axis);
/// Whether t has an entry for each token, and not one for all.
bool has_entry_for_each_token(const at::Tensor& t, const InputField& field);
/// Whether t has batch entries, be it one for all.
bool has_batch(const at::Tensor& t, const InputField& field);

/// Throws InputError that names the input, unless type and shape are those of the field.
void require_input(const at::Tensor& t, const char* name, const InputField& field,
                   const AxisSizes& sizes);
/// The same for all of `inputs`.
template <class Inputs>
void require_inputs(const Inputs& inputs, const AxisSizes& sizes) {
  each_input(inputs, [&](const char* name, const at::Tensor& t, const InputField& field) {
    require_input(t, name, field, sizes);
  });
}

/// Batch entries of the first input that has several; 1 where none has.
template <class Inputs>
int64_t count_batch_entries(const Inputs& inputs) {
  int64_t count = 1;
  each_input(inputs, [&](const char*, const at::Tensor& t, const InputField& field) {
    if (count == 1 && has_batch(t, field)) count = t.size(0);
  });
  return count;
}

/// Makes batch entry r of everything that has one for each of `batch` what was entry entries[r],
/// also in inputs structs within.
template <class Inputs>
void reorder_batch(Inputs& inputs, const at::Tensor& entries, int64_t batch) {
  if (batch == 1) return;  // broadcast, to as many as there will be
  each_input_within(inputs, [&](const char*, at::Tensor& t, const InputField& field) {
    if (has_batch(t, field) && t.size(0) == batch) t = t.index_select(0, entries);
  });
}

namespace detail {

/// Visitor that notes each needed input of a const inputs struct, those of inputs structs within
/// among them, and hands what it has noted to another struct of the type, which is not const.
struct NeededVisitor {
  std::vector<std::any> noted = {};
  size_t next = 0;

  template <class T>
  void operator()(const char*, T& member, const InputField& field) {
    if (!field.is_needed) return;
    if constexpr (std::is_const_v<T>) {
      noted.emplace_back(member);
    } else {
      member = std::any_cast<T>(noted[next++]);
    }
  }
  template <class T>
  void made(const char* name, T& member, const InputField& field) {
    (*this)(name, member, field);
  }
  template <class T>
  void value(const char*, T&, const InputField& = {}) {}
  template <class T>
  void nested(T& inner, std::initializer_list<const char*>) {
    std::remove_const_t<T>::fields(inner, *this);
  }
};

}  // namespace detail

/// What of `inputs` a call cannot do without (InputField::is_needed).
template <class Inputs>
Inputs needed_inputs(const Inputs& inputs) {
  detail::NeededVisitor visitor;
  Inputs::fields(inputs, visitor);
  Inputs needed;
  Inputs::fields(needed, visitor);
  return needed;
}

/// How many of each reader a call has.
class ReaderCounts {
 public:
  size_t& operator[](Reader reader) { return counts_[static_cast<size_t>(reader)]; }
  size_t operator[](Reader reader) const { return counts_[static_cast<size_t>(reader)]; }
  bool any_of(Readers readers) const;
  /// How many there are of the first of `readers`.
  size_t first_of(Readers readers) const;

 private:
  std::array<size_t, kReaders> counts_ = {};
};

namespace detail {

void warn_of_unread(const char* name, Readers readers);
void warn_of_too_many(const char* name, Readers readers, size_t given, size_t read);

/// Visitor that drops what a cache holds after the first call.
struct CachedDropper {
  template <class T>
  void operator()(const char*, T& member, const InputField& field) {
    const auto kind = field.beside_cache;
    if (kind == BesideCache::first || kind == BesideCache::held) member = T();
  }
  template <class T>
  void made(const char* name, T& member, const InputField& field) {
    (*this)(name, member, field);
  }
  template <class T>
  void value(const char*, T&, const InputField& = {}) {}
  template <class T>
  void nested(T&, std::initializer_list<const char*>) {}
};

/// Visitor that drops what nothing reads.
struct UnreadDropper {
  const ReaderCounts& running;

  template <class T>
  void operator()(const char* name, T& member, const InputField& field) {
    if (field.read_by.empty() || !is_given(member)) return;
    if (field.is_per_layer) {
      drop_excess(name, member, field);
    } else if (!running.any_of(field.read_by)) {
      if (!field.is_silent) warn_of_unread(name, field.read_by);
      member = T();
    }
  }
  template <class T>
  void made(const char* name, T& member, const InputField& field) {
    (*this)(name, member, field);
  }
  template <class T>
  void value(const char*, T&, const InputField& = {}) {}
  template <class T>
  void nested(T&, std::initializer_list<const char*>) {}

 private:
  static bool is_given(const at::Tensor& t) { return t.defined(); }
  template <class T>
  static bool is_given(const std::vector<T>& items) {
    return !items.empty();
  }
  template <class T>
  static bool is_given(const std::optional<T>& t) {
    return t.has_value();
  }
  template <class T>
  requires requires(const T& t) { t.defined(); }
  static bool is_given(const T& t) { return t.defined(); }

  template <class T>
  void drop_excess(const char* name, std::vector<T>& items, const InputField& field) {
    const auto read = running.first_of(field.read_by);
    if (items.size() <= read) return;
    if (!field.is_silent) warn_of_too_many(name, field.read_by, items.size(), read);
    items.resize(read);
  }
  template <class T>
  void drop_excess(const char*, T&, const InputField&) {}
};

}  // namespace detail

/// Drops what entered with the first call, in a later one, where the cache holds it.
template <class Inputs>
void drop_cached(Inputs& inputs) {
  detail::CachedDropper dropper;
  Inputs::fields(inputs, dropper);
}

/// Drops what none of the readers that run reads, with a warning: nothing counts or checks it then.
template <class Inputs>
void drop_unread_inputs(Inputs& inputs, const ReaderCounts& running) {
  detail::UnreadDropper dropper{running};
  Inputs::fields(inputs, dropper);
}

}  // namespace x_transformers
