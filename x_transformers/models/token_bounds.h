// Whether ids are in range. A look at values: models look where it costs next to nothing, at ids in
// the memory of the CPU; those on a device are looked at where tensors enter from files, as every
// look would have a training step wait for the device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "x_transformers/core/loss_inputs.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"

namespace x_transformers {

/// Ids from 0 to `count` - 1, which the option `limit` sets (without a count: any from 0), or
/// `other`.
struct IdRange {
  std::optional<int64_t> count = std::nullopt;
  const char* limit = nullptr;
  std::optional<int64_t> other = std::nullopt;
};

/// Ids of any type of integers as int64, which has room for what is no id (-100). Throws InputError
/// that names the tensor where it holds something else.
at::Tensor as_ids(const at::Tensor& ids, const char* name);

/// The ids that the model embeds, and those that it has logits for.
IdRange token_range(const TokenModel& net);
IdRange logits_range(const TokenModel& net);

/// The tensor `name` [examples, tokens] that `net` embeds, as its loss takes it; `prefix` is of the
/// net's options in its owner. With targets the ids are those that it has logits for as well.
/// `unseen` tokens more than it has positions for are not embedded.
LossInput token_input(const TokenModel& net, const std::string& name, bool are_targets = false,
                      int64_t unseen = 0, const std::string& prefix = "");

/// Throws InputError that names the first id out of range and its place. What is undefined or holds
/// no integers is for the model to judge.
void require_in_range(const at::Tensor& ids, const std::string& name, const IdRange& range);

/// The same for ids in the CPU's memory; those of a device are not looked at, and one that is out
/// of range there ends in the device's error.
void require_in_range_on_cpu(const at::Tensor& ids, const std::string& name, const IdRange& range);

/// The same for positions `pos`, if they are integers, of sequences that begin at `seq_start_pos`;
/// the padding before may stand anywhere. Without a limit any position will do.
void require_positions_in_range(const at::Tensor& pos, const at::Tensor& seq_start_pos,
                                const std::optional<TokenLimit>& limit);

/// The same for the positions and further ids of a call.
void require_in_range(const TransformerInputs& inputs, const TokenModel& net);
/// The same for those in the CPU's memory, and for tokens that the net embeds.
void require_in_range_on_cpu(const TransformerInputs& inputs, const TokenModel& net);

}  // namespace x_transformers
