// Rules that many options share. Each throws InputError with the option, what was expected and what
// came; an absent value breaks no rule.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/error.h"

namespace x_transformers {

/// Features, tokens, heads and the like: beyond any model, and the product of two fits in 64 bits.
inline constexpr int64_t kLargestSize = 100'000'000;
/// Modules of a kind: beyond any model, and within what can be planned and built in time.
inline constexpr int64_t kMostModules = 10'000;

void require_at_least(int64_t value, int64_t least, const OptionPath& name);
void require_at_least(const std::optional<int64_t>& value, int64_t least, const OptionPath& name);
void require_at_most(int64_t value, int64_t most, const OptionPath& name);
void require_at_most(const std::optional<int64_t>& value, int64_t most, const OptionPath& name);
void require_positive(int64_t value, const OptionPath& name);
void require_positive(const std::optional<int64_t>& value, const OptionPath& name);
void require_positive(double value, const OptionPath& name);
/// A size: from 1 to kLargestSize.
void require_size(int64_t value, const OptionPath& name);
void require_size(const std::optional<int64_t>& value, const OptionPath& name);
/// How many there are of what may also be left out: from 0 to kLargestSize.
void require_count(int64_t value, const OptionPath& name);
void require_count(const std::optional<int64_t>& value, const OptionPath& name);
/// How many modules of a kind there are: from 1 to kMostModules.
void require_modules(int64_t value, const OptionPath& name);
void require_modules(const std::optional<int64_t>& value, const OptionPath& name);
/// In [0, 1].
void require_probability(double value, const OptionPath& name);
/// A probability that is not certainty: in [0, 1).
void require_fraction(double value, const OptionPath& name);

/// A size that `whole` is a multiple of, as heads of kv_heads.
void require_divides(int64_t value, const OptionPath& name, int64_t whole,
                     const OptionPath& name_of_whole);

}  // namespace x_transformers
