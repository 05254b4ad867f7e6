// Rules that many options share. Each throws InputError that names the option, what was expected
// and what came; an absent value breaks no rule.
#pragma once

#include <cstdint>
#include <optional>

namespace x_transformers {

void require_at_least(int64_t value, int64_t least, const char* name);
void require_at_least(const std::optional<int64_t>& value, int64_t least, const char* name);
void require_positive(int64_t value, const char* name);
void require_positive(const std::optional<int64_t>& value, const char* name);
void require_positive(double value, const char* name);
/// A probability that is not certainty: in [0, 1).
void require_fraction(double value, const char* name);

}  // namespace x_transformers
