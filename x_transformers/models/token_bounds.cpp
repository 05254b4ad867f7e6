#include "x_transformers/models/token_bounds.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"

namespace x_transformers {
namespace {

bool are_ids(const at::Tensor& t) {
  return t.defined() && at::isIntegralType(t.scalar_type(), false);
}

/// Whether all ids are from 0 to `count` - 1, found out in one pass.
bool are_all_below(const at::Tensor& ids, const std::optional<int64_t>& count) {
  const auto [least, most] = at::aminmax(ids);
  return least.item<int64_t>() >= 0 && (!count || most.item<int64_t>() < *count);
}

IdRange range_of(const std::optional<TokenLimit>& limit) {
  return limit ? IdRange{limit->count, limit->option} : IdRange{};
}

}  // namespace

at::Tensor as_ids(const at::Tensor& ids, const char* name) {
  require_kind(ids, name, TensorKind::integer);
  return ids.defined() ? ids.to(at::kLong) : ids;
}

IdRange token_range(const TokenModel& net) { return range_of(net.embedded_tokens()); }

IdRange logits_range(const TokenModel& net) { return range_of(net.predicted_tokens()); }

LossInput token_input(const TokenModel& net, const std::string& name, bool are_targets,
                      int64_t unseen, const std::string& prefix) {
  LossInput input{.name = name, .kind = LossInputKind::ids};
  input.sizes = std::vector<int64_t>{-1};
  auto ids = net.embedded_tokens();
  const auto predicted = are_targets ? net.predicted_tokens() : std::nullopt;
  if (predicted && (!ids || predicted->count < ids->count)) ids = predicted;
  if (ids) {
    input.count = ids->count;
    input.counted_by = OptionPath(prefix + ids->option);
  }
  if (const auto positions = net.embedded_positions()) {
    input.longest = positions->count + unseen;
    input.limited_by = text("{} is {}{}", option(prefix + positions->option), positions->count,
                            unseen > 0 ? ", and one more that only the loss needs" : "");
  }
  return input;
}

void require_in_range(const at::Tensor& ids, const std::string& name, const IdRange& range) {
  if (!are_ids(ids) || ids.numel() == 0) return;
  if (ids.is_cpu() && are_all_below(ids, range.count)) return;
  // In int64: a bound that a smaller type does not hold would wrap.
  const auto wide = ids.to(at::kLong);
  auto is_wrong = wide < 0;
  if (range.count) is_wrong = is_wrong | (wide >= *range.count);
  if (range.other) is_wrong = is_wrong & (wide != *range.other);
  const auto wrong = is_wrong.cpu().nonzero();
  if (wrong.size(0) == 0) return;
  auto id = ids.cpu();
  std::vector<int64_t> place;
  for (int64_t dim = 0; dim < wrong.size(1); ++dim) {
    place.push_back(wrong[0][dim].item<int64_t>());
    id = id.select(0, place.back());
  }
  const auto found = fmt::format("{} at position [{}]", id.item<int64_t>(), fmt::join(place, ", "));
  require(range.count.has_value(), at(name), "{}, expected 0 or more", found);
  require(false, at(name), "{}, expected 0 to {} ({} is {})", found, *range.count - 1,
          option(range.limit), *range.count);
}

void require_in_range_on_cpu(const at::Tensor& ids, const std::string& name, const IdRange& range) {
  if (ids.defined() && ids.is_cpu()) require_in_range(ids, name, range);
}

void require_positions_in_range(const at::Tensor& pos, const at::Tensor& seq_start_pos,
                                const std::optional<TokenLimit>& limit) {
  if (!limit || !are_ids(pos)) return;
  const bool is_padded = seq_start_pos.defined();
  require_in_range(is_padded ? (pos - seq_start_pos.unsqueeze(-1)).clamp_min(0) : pos, "pos",
                   range_of(limit));
}

void require_in_range(const TransformerInputs& inputs, const TokenModel& net) {
  require_positions_in_range(inputs.pos, inputs.seq_start_pos, net.embedded_positions());
  const auto limits = net.further_ids();
  for (const auto& [name, ids] : inputs.embed_ids) {
    const auto found = limits.find(name);
    if (found == limits.end()) continue;
    require_in_range(ids, "embed_ids." + name, {found->second, "embed_num_tokens"});
  }
}

void require_in_range_on_cpu(const TransformerInputs& inputs, const TokenModel& net) {
  const bool are_on_cpu =
      (!inputs.x.defined() || inputs.x.is_cpu()) && (!inputs.pos.defined() || inputs.pos.is_cpu());
  if (!are_on_cpu) return;
  const auto tokens = net.traits().embeds_ids ? net.embedded_tokens() : std::nullopt;
  if (tokens) require_in_range(inputs.x, "x", range_of(tokens));
  require_in_range(inputs, net);
}

}  // namespace x_transformers
