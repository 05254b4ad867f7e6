// What the loss of a model takes of data: by it examples are judged where their files and lines are
// still known.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers {

enum class LossInputKind {
  ids,       ///< whole numbers that name tokens or classes; used as int64
  numbers,   ///< floating-point numbers; used as float32
  pictures,  ///< [channels, height, width] an example; as numbers, or bytes that stand for 0 to 1
  mask,      ///< true or false, also as integers 0 and 1; used as bool
};

/// A tensor of which an example is one entry. What is left open is for the model to judge.
struct LossInput {
  std::string name;
  LossInputKind kind = LossInputKind::numbers;
  bool is_needed = true;
  /// The axes of an example; -1: of any length. Absent: any.
  std::optional<std::vector<int64_t>> sizes = std::nullopt;
  /// Ids are 0 to `count` - 1, as the option `counted_by` has it, or `ignored`.
  std::optional<int64_t> count = std::nullopt;
  OptionPath counted_by = {};
  std::optional<int64_t> ignored = std::nullopt;
  /// An id that data must not have, and what is said of it.
  std::optional<int64_t> reserved = std::nullopt;
  Text reserved_for = {};
  /// Entries of the first axis; `limited_by` says why no more.
  int64_t shortest = 0;
  std::optional<int64_t> longest = std::nullopt;
  Text limited_by = {};
  /// Of a mask: the names of sequences that must keep a token that the mask does not cover. In
  /// each, at least one token after the first is false in this mask, and true in the sequence's own
  /// mask NAME_mask, where there is one.
  std::vector<std::string> leaves_some_of = {};
  /// The input of ids that has an entry for each of these, where there is one.
  std::string beside = {};
  /// Of numbers: they are read only where the id beside them is this; elsewhere NaN may stand.
  std::optional<int64_t> read_at = std::nullopt;
};

struct LossInputs {
  std::vector<LossInput> tensors = {};
  /// forward gives no loss: a batch needs one of these, against which its result is measured.
  std::vector<std::string> answers = {};
  /// Why there is no loss at all of such a batch, and what has one; empty: there is.
  Text unsupported = {};

  const LossInput* find(const std::string& name) const {
    for (const auto& input : tensors)
      if (input.name == name) return &input;
    return nullptr;
  }
};

/// The same with the options that they name as `spelling` has them.
LossInput respelled(LossInput input, const Spelling& spelling);
LossInputs respelled(LossInputs inputs, const Spelling& spelling);

}  // namespace x_transformers
