// Rules that many options share. Each throws InputError that names the option, what was expected
// and what came; an absent value breaks no rule.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

/// Features, tokens, heads and the like: beyond any model, and the product of two fits in 64 bits.
inline constexpr int64_t kLargestSize = 100'000'000;
/// Modules of a kind: beyond any model, and within what can be planned and built in time.
inline constexpr int64_t kMostModules = 10'000;

void require_at_least(int64_t value, int64_t least, const char* name);
void require_at_least(const std::optional<int64_t>& value, int64_t least, const char* name);
void require_at_most(int64_t value, int64_t most, const char* name);
void require_at_most(const std::optional<int64_t>& value, int64_t most, const char* name);
void require_positive(int64_t value, const char* name);
void require_positive(const std::optional<int64_t>& value, const char* name);
void require_positive(double value, const char* name);
/// A size: from 1 to kLargestSize.
void require_size(int64_t value, const char* name);
void require_size(const std::optional<int64_t>& value, const char* name);
/// How many there are of what may also be left out: from 0 to kLargestSize.
void require_count(int64_t value, const char* name);
void require_count(const std::optional<int64_t>& value, const char* name);
/// How many modules of a kind there are: from 1 to kMostModules.
void require_modules(int64_t value, const char* name);
void require_modules(const std::optional<int64_t>& value, const char* name);
/// In [0, 1].
void require_probability(double value, const char* name);
/// A probability that is not certainty: in [0, 1).
void require_fraction(double value, const char* name);

/// `message` about something within the part `name`: after the path of an option, another part of
/// that path.
std::string within_part(const char* name, const std::string& message);

/// For a handler of every exception of a construction: throws it on, InputErrors and RunErrors with
/// the name of the part that was made, and lack of memory as a RunError.
[[noreturn]] void rethrow_within(const char* part);
/// The same with `where` in front, the place of the whole in what the user gave.
[[noreturn]] void rethrow_at(const std::string& where);

/// What `make` returns; its errors come with the name of the part that was made.
template <class Make>
auto make_part(const char* name, Make make) {
  try {
    return make();
  } catch (...) {
    rethrow_within(name);
  }
}

namespace detail {

/// Visitor that collects the names of the fields.
struct NameCollector {
  std::set<std::string> names;
  std::string prefix_so_far = {};

  template <class T>
  void operator()(const char* name, T&, const char*, const char* = "") {
    names.insert(prefix_so_far + name);
  }
  template <class T>
  void required(const char* name, T&, const char*, const char* = "") {
    names.insert(prefix_so_far + name);
  }
  template <class T>
  void prefix(const char* name, T& member, const char*,
              std::initializer_list<const char*> skipped = {}) {
    NameCollector inner{{}, prefix_so_far + name + "_"};
    member.fields(inner);
    for (const char* each : skipped) inner.names.erase(inner.prefix_so_far + each);
    names.merge(inner.names);
  }
  template <class T>
  void prefix_over(const char* name, std::optional<T>&, const T& base, const char* meaning,
                   std::initializer_list<const char*> skipped = {}) {
    T copy = base;
    prefix(name, copy, meaning, skipped);
  }
  void not_built(const char*) {}
};

/// `message` with `prefix` before every whole word that is among `names`, but for what is quoted
/// and for what stands below another name, as in name.name.
std::string with_prefix(const std::string& prefix, const std::set<std::string>& names,
                        const std::string& message);

}  // namespace detail

/// `message` of a rule among `options` as its reader spells them: with `prefix`, but for those that
/// the owner sets.
template <Options T>
std::string with_prefix(const std::string& prefix, T options, const std::set<std::string>& owners,
                        const std::string& message) {
  detail::NameCollector fields;
  options.fields(fields);
  for (const auto& name : owners) fields.names.erase(name);
  return detail::with_prefix(prefix, fields.names, message);
}

}  // namespace x_transformers
