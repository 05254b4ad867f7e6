// Rules that many options share. Each throws InputError that names the option, what was expected
// and what came; an absent value breaks no rule.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "x_transformers/core/error.h"

namespace x_transformers {

void require_at_least(int64_t value, int64_t least, const char* name);
void require_at_least(const std::optional<int64_t>& value, int64_t least, const char* name);
void require_at_most(int64_t value, int64_t most, const char* name);
void require_at_most(const std::optional<int64_t>& value, int64_t most, const char* name);
void require_positive(int64_t value, const char* name);
void require_positive(const std::optional<int64_t>& value, const char* name);
void require_positive(double value, const char* name);
/// A probability that is not certainty: in [0, 1).
void require_fraction(double value, const char* name);

/// `message` about something within the part `name`: after the path of an option, another part of
/// that path.
std::string within_part(const char* name, const std::string& message);

/// What `make` returns, or its InputError with the name of the part that was made.
template <class Make>
auto make_part(const char* name, Make make) {
  try {
    return make();
  } catch (const InputError& error) {
    throw InputError(within_part(name, error.what()));
  }
}

}  // namespace x_transformers
