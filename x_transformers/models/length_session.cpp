#include "x_transformers/models/length_session.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <map>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/models/step_inputs.h"

namespace x_transformers {
namespace {

std::vector<int64_t> on_host(const at::Tensor& t) {
  const auto host = t.to(at::kCPU, at::kLong).contiguous();
  const auto* begin = host.const_data_ptr<int64_t>();
  return {begin, begin + host.numel()};
}

}  // namespace

std::string LengthSession::padding_unsupported(const TransformerWrapper& net,
                                               const TransformerInputs& inputs) {
  if (const auto reason = net->padding_unsupported(); !reason.empty()) return reason;
  const auto is_given = [](const at::Tensor& t) { return t.defined(); };
  if (is_given(inputs.prepend_embeds)) return "prepend_embeds stand before the padding";
  if (!inputs.mems.empty()) return "mems stand before the padding";
  if (!inputs.layers.self_attn_additional_kv.empty())
    return "self_attn_additional_kv stand before the padding";
  if (is_given(inputs.mask)) return "mask hides no keys beside padding";
  if (is_given(inputs.layers.prefix_attn_len)) return "prefix_attn_len counts the padding";
  return {};
}

LengthSession::LengthSession(const TransformerWrapper& net, const SessionOptions& options)
    : LengthSession(
          [&net](SessionOptions own) {
            return std::make_unique<TransformerSession>(net, std::move(own));
          },
          options) {}

LengthSession::LengthSession(const Start& start, const SessionOptions& options) {
  require(options.seq_start_pos.defined(), "seq_start_pos: is needed, for prompts of each length");
  const auto padding = on_host(options.seq_start_pos);
  std::map<int64_t, std::vector<int64_t>> rows_of;
  for (size_t row = 0; row < padding.size(); ++row)
    rows_of[padding[row]].push_back(static_cast<int64_t>(row));
  for (const auto& [count, rows] : rows_of) {
    auto own = options;
    own.seq_start_pos = at::Tensor();
    own.first_token += count;
    const auto index = at::tensor(rows, options.seq_start_pos.options().dtype(at::kLong));
    x_transformers::reorder(own.inputs, index, static_cast<int64_t>(padding.size()));
    groups_.push_back({count, index, start(std::move(own))});
  }
}

at::Tensor LengthSession::append(const at::Tensor& tokens) {
  at::Tensor logits;
  for (auto& group : groups_) {
    auto own = tokens.index_select(0, group.rows);
    if (!has_prompt_) {
      require(group.padding < tokens.size(1),
              fmt::format("prompts: expected all {} tokens of the shortest with the first call",
                          group.padding));
      own = own.narrow(1, group.padding, tokens.size(1) - group.padding);
    }
    const auto of_group = group.session->append(own);
    if (!logits.defined()) logits = of_group.new_empty({tokens.size(0), of_group.size(1)});
    logits.index_copy_(0, group.rows, of_group);
  }
  has_prompt_ = true;
  return logits;
}

void LengthSession::reorder(const at::Tensor& rows) {
  struct Place {
    size_t group;
    int64_t row;  // within the group
  };
  std::map<int64_t, Place> places;
  for (size_t group = 0; group < groups_.size(); ++group) {
    int64_t own = 0;
    for (const auto row : on_host(groups_[group].rows)) places[row] = {group, own++};
  }
  std::vector<std::vector<int64_t>> sources(groups_.size()), targets(groups_.size());
  int64_t target = 0;
  for (const auto row : on_host(rows)) {
    const auto place = places.at(row);
    sources[place.group].push_back(place.row);
    targets[place.group].push_back(target++);
  }
  std::vector<Group> kept;
  for (size_t group = 0; group < groups_.size(); ++group) {
    if (targets[group].empty()) continue;
    auto& own = groups_[group];
    own.session->reorder(at::tensor(sources[group], rows.options()));
    own.rows = at::tensor(targets[group], rows.options());
    kept.push_back(std::move(own));
  }
  groups_ = std::move(kept);
}

std::unique_ptr<DecodingSession> make_session(const TransformerWrapper& net,
                                              const SessionOptions& options) {
  const bool is_padded = options.seq_start_pos.defined() && options.seq_start_pos.numel() > 0;
  if (is_padded && !LengthSession::padding_unsupported(net, options.inputs).empty())
    return std::make_unique<LengthSession>(net, options);
  return std::make_unique<TransformerSession>(net, options);
}

}  // namespace x_transformers
