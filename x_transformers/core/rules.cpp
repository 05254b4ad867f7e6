#include "x_transformers/core/rules.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <cctype>

#include "x_transformers/core/device.h"

namespace x_transformers {
namespace {

/// Throws the exception in flight on, with `place` of its message; what LibTorch says, lack
/// of memory above all, as a RunError.
template <class Place>
[[noreturn]] void rethrow(Place place) {
  try {
    throw;
  } catch (const InputError& error) {
    throw InputError(place(error.what()));
  } catch (const RunError& error) {
    throw RunError(place(error.what()));
  } catch (const std::exception& error) {
    if (const auto reason = out_of_memory(error))
      throw RunError(place("out of memory: " + *reason));
    const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
    if (!torch_error) throw;
    const std::string text = torch_error->what_without_backtrace();
    throw RunError(place(text.substr(0, text.find('\n'))));
  }
}

bool is_of_a_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

}  // namespace

void require_at_least(int64_t value, int64_t least, const char* name) {
  require(value >= least, fmt::format("{}: expected {} or more, got {}", name, least, value));
}

void require_at_least(const std::optional<int64_t>& value, int64_t least, const char* name) {
  if (value) require_at_least(*value, least, name);
}

void require_at_most(int64_t value, int64_t most, const char* name) {
  require(value <= most, fmt::format("{}: expected {} or less, got {}", name, most, value));
}

void require_at_most(const std::optional<int64_t>& value, int64_t most, const char* name) {
  if (value) require_at_most(*value, most, name);
}

void require_positive(int64_t value, const char* name) {
  require(value > 0, fmt::format("{}: expected a positive number, got {}", name, value));
}

void require_positive(const std::optional<int64_t>& value, const char* name) {
  if (value) require_positive(*value, name);
}

void require_positive(double value, const char* name) {
  require(value > 0, fmt::format("{}: expected a positive number, got {}", name, value));
}

void require_size(int64_t value, const char* name) {
  require_positive(value, name);
  require_at_most(value, kLargestSize, name);
}

void require_size(const std::optional<int64_t>& value, const char* name) {
  if (value) require_size(*value, name);
}

void require_count(int64_t value, const char* name) {
  require_at_least(value, 0, name);
  require_at_most(value, kLargestSize, name);
}

void require_count(const std::optional<int64_t>& value, const char* name) {
  if (value) require_count(*value, name);
}

void require_modules(int64_t value, const char* name) {
  require_positive(value, name);
  require_at_most(value, kMostModules, name);
}

void require_modules(const std::optional<int64_t>& value, const char* name) {
  if (value) require_modules(*value, name);
}

void require_probability(double value, const char* name) {
  require(value >= 0 && value <= 1,
          fmt::format("{}: expected a number in [0, 1], got {}", name, value));
}

void require_fraction(double value, const char* name) {
  require(value >= 0 && value < 1,
          fmt::format("{}: expected a number in [0, 1), got {}", name, value));
}

std::string within_part(const char* name, const std::string& message) {
  const auto path_end = message.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.");
  const bool begins_with_path =
      path_end != std::string::npos && path_end > 0 && message[path_end] == ':';
  return std::string(name) + (begins_with_path ? "." : ": ") + message;
}

void rethrow_within(const char* part) {
  rethrow([&](const std::string& message) { return within_part(part, message); });
}

void rethrow_at(const std::string& where) {
  rethrow([&](const std::string& message) { return where + ": " + message; });
}

std::string detail::with_prefix(const std::string& prefix, const std::set<std::string>& names,
                                const std::string& message) {
  std::string result;
  bool is_quoted = false;
  for (size_t begin = 0, end = 0; begin < message.size(); begin = end) {
    for (end = begin; end < message.size() && is_of_a_name(message[end]);) ++end;
    const auto word = message.substr(begin, end - begin);
    if (!word.empty()) {
      const bool is_below = begin > 0 && message[begin - 1] == '.';
      result += (names.count(word) && !is_quoted && !is_below ? prefix : "") + word;
      continue;
    }
    // Not the apostrophe of a word.
    const bool follows_word = begin > 0 && is_of_a_name(message[begin - 1]);
    if (message[begin] == '\'') is_quoted = !is_quoted && !follows_word;
    result += message[end++];
  }
  return result;
}

}  // namespace x_transformers
