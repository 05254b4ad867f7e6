// What a loss of next entries takes of sequences.
#pragma once

#include <optional>
#include <utility>

#include "x_transformers/core/loss_inputs.h"
#include "x_transformers/core/token_limit.h"

namespace x_transformers {

/// `input` as sequences [examples, entries, ...] of which each entry but the first is what those
/// before it lead to: two at least, and one more than the `net` of a wrapper has `positions` for
/// (empty: any).
inline LossInput of_next_entries(LossInput input, const std::optional<TokenLimit>& positions) {
  input.shortest = 2;
  input.limited_by = "the last is what the others lead to";
  if (!positions) return input;
  input.longest = positions->count + 1;
  input.limited_by = text("{} is {}, and one more that only the loss needs",
                          option(OptionPath("net") / positions->option), positions->count);
  return input;
}

}  // namespace x_transformers
