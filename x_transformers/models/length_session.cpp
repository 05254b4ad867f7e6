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

LengthSession::LengthSession(const Start& start, const SessionOptions& options) {
  require(options.seq_start_pos.defined(), at("seq_start_pos"),
          "is needed, for prompts of each length");
  const auto padding = on_host(options.seq_start_pos);
  std::map<int64_t, std::vector<int64_t>> entries_of;
  for (size_t entry = 0; entry < padding.size(); ++entry)
    entries_of[padding[entry]].push_back(static_cast<int64_t>(entry));
  for (const auto& [count, entries] : entries_of) {
    auto own = options;
    own.seq_start_pos = at::Tensor();
    own.first_token += count;
    const auto index = at::tensor(entries, options.seq_start_pos.options().dtype(at::kLong));
    reorder_batch(own.inputs, index, static_cast<int64_t>(padding.size()));
    groups_.push_back({count, index, start(std::move(own))});
  }
}

at::Tensor LengthSession::append(const at::Tensor& tokens) {
  at::Tensor logits;
  for (auto& group : groups_) {
    auto own = tokens.index_select(0, group.entries);
    if (!has_prompt_) {
      require(group.padding < tokens.size(1), at("prompts"),
              "expected the whole prompts with the first call");
      own = own.narrow(1, group.padding, tokens.size(1) - group.padding);
    }
    const auto of_group = group.session->append(own);
    if (!logits.defined()) logits = of_group.new_empty({tokens.size(0), of_group.size(1)});
    logits.index_copy_(0, group.entries, of_group);
  }
  has_prompt_ = true;
  return logits;
}

void LengthSession::reorder(const at::Tensor& entries) {
  struct Place {
    size_t group;
    int64_t entry;  // within the group
  };
  std::map<int64_t, Place> places;
  for (size_t group = 0; group < groups_.size(); ++group) {
    int64_t own = 0;
    for (const auto entry : on_host(groups_[group].entries)) places[entry] = {group, own++};
  }
  std::vector<std::vector<int64_t>> sources(groups_.size()), targets(groups_.size());
  int64_t target = 0;
  for (const auto entry : on_host(entries)) {
    const auto place = places.at(entry);
    sources[place.group].push_back(place.entry);
    targets[place.group].push_back(target++);
  }
  std::vector<Group> kept;
  for (size_t group = 0; group < groups_.size(); ++group) {
    if (targets[group].empty()) continue;
    auto& own = groups_[group];
    own.session->reorder(at::tensor(sources[group], entries.options()));
    own.entries = at::tensor(targets[group], entries.options());
    kept.push_back(std::move(own));
  }
  groups_ = std::move(kept);
}

std::unique_ptr<DecodingSession> make_session(const LengthSession::Start& start, bool sees_padding,
                                              const SessionOptions& options) {
  const bool is_padded = options.seq_start_pos.defined() && options.seq_start_pos.numel() > 0;
  if (is_padded && sees_padding) return std::make_unique<LengthSession>(start, options);
  return start(options);
}

std::unique_ptr<DecodingSession> make_session(const std::shared_ptr<CachedTokenModel>& net,
                                              const SessionOptions& options) {
  const auto start = [&net](SessionOptions own) {
    return std::make_unique<TransformerSession>(net, std::move(own));
  };
  return make_session(start, !net->padding_unsupported(options.inputs).empty(), options);
}

}  // namespace x_transformers
