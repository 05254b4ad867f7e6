// Rules that many options share. Each throws InputError with the option, what was expected and what
// was given; an absent value breaks no rule.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/error.h"

namespace x_transformers {

/// Maximum of features, tokens, heads and the like: beyond any model; two multiply in 64 bits.
inline constexpr int64_t kMaxSize = 100'000'000;
/// Maximum of modules of a kind: beyond any model, and planned and built in reasonable time.
inline constexpr int64_t kMaxModules = 10'000;

void require_at_least(int64_t value, int64_t least, const OptionPath& name);
void require_at_least(const std::optional<int64_t>& value, int64_t least, const OptionPath& name);
void require_at_most(int64_t value, int64_t most, const OptionPath& name);
void require_at_most(const std::optional<int64_t>& value, int64_t most, const OptionPath& name);
void require_positive(int64_t value, const OptionPath& name);
void require_positive(const std::optional<int64_t>& value, const OptionPath& name);
void require_positive(double value, const OptionPath& name);
/// A size: from 1 to kMaxSize.
void require_size(int64_t value, const OptionPath& name);
void require_size(const std::optional<int64_t>& value, const OptionPath& name);
/// A number of things, perhaps none: from 0 to kMaxSize.
void require_count(int64_t value, const OptionPath& name);
void require_count(const std::optional<int64_t>& value, const OptionPath& name);
/// How many modules of a kind there are: from 1 to kMaxModules.
void require_modules(int64_t value, const OptionPath& name);
void require_modules(const std::optional<int64_t>& value, const OptionPath& name);
/// In [0, 1].
void require_probability(double value, const OptionPath& name);
/// A probability that is not certainty: in [0, 1).
void require_fraction(double value, const OptionPath& name);

/// `whole` must be a multiple of `value`, as heads of kv_heads.
void require_divides(int64_t value, const OptionPath& name, int64_t whole,
                     const OptionPath& name_of_whole);

}  // namespace x_transformers
