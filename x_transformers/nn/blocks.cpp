#include "x_transformers/nn/blocks.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {

BranchOutput Scale::run(const BranchInputs& inputs) {
  auto result = fn_->run(inputs);
  result.out = result.out * value_;
  return result;
}

namespace {
/// Tokens moved `amount` positions later (earlier if negative), zeros moved in; within `documents`,
/// unless null.
at::Tensor shift(const at::Tensor& t, int64_t amount, const at::Tensor& exists,
                 const Documents* documents) {
  if (amount == 0) return t;
  amount = std::clamp(amount, -t.size(-2), t.size(-2));
  const auto moved = at::constant_pad_nd(zero_masked_rows(t, exists), {0, 0, amount, -amount}, 0);
  if (documents == nullptr) return moved;
  return zero_masked_rows(moved,
                          amount > 0 ? documents->places >= amount : documents->left >= -amount);
}
}  // namespace

ShiftTokens::ShiftTokens(const ShiftTokensOptions& options, std::shared_ptr<Block> fn)
    : WrappedBlock(std::move(fn)), shifts_(options.shifts) {
  require(!shifts_.empty(), at("shifts"), "expected at least one, got []");
}

at::Tensor ShiftState::extend(const at::Tensor& x, int64_t count) {
  auto sizes = x.sizes().vec();
  sizes[sizes.size() - 2] = count;
  const auto before = last_.defined() ? last_ : at::zeros(sizes, x.options());
  auto all = at::cat({before, x}, -2);
  const auto kept = all.narrow(-2, x.size(-2), count);
  if (is_static_) {
    last_.copy_(kept);
  } else {
    last_ = kept.clone();  // a view would keep all tokens in memory
  }
  return all;
}

void ShiftState::reorder(const at::Tensor& entries) {
  if (last_.defined()) last_ = last_.index_select(last_.dim() - 3, entries);
  if (inner_) inner_->reorder(entries);
}

void ShiftState::fix(const StaticPlace& place) {
  if (last_.defined()) last_ = last_.clone();
  is_static_ = last_.defined();
  if (inner_) inner_->fix(place);
}

void ShiftState::release(int64_t length) {
  is_static_ = false;
  if (inner_) inner_->release(length);
}

/// The same for tokens that follow earlier ones.
at::Tensor ShiftTokens::shift_features(const at::Tensor& x, const at::Tensor& exists,
                                       ShiftState& earlier) const {
  const auto groups = static_cast<int64_t>(shifts_.size());
  const auto longest = *std::max_element(shifts_.begin(), shifts_.end());
  const auto seen = earlier.extend(zero_masked_rows(x, exists), longest);
  const auto features = x.size(-1) / groups;
  auto parts = x.split(features, -1);
  const auto shifted = seen.split(features, -1);
  for (int64_t group = 0; group < groups; ++group) {
    if (shifts_[group] > 0)
      parts[group] = shifted[group].narrow(-2, longest - shifts_[group], x.size(-2));
  }
  return at::cat(parts, -1);
}

BranchOutput ShiftTokens::run(const BranchInputs& inputs) {
  auto shifted = inputs;
  // Tokens that do not exist, such as padding before a prompt, are shifted in as zeros.
  const auto exists = mask_and(inputs.mask, inputs.started);
  if (auto* state = static_cast<ShiftState*>(inputs.state)) {
    shifted.x = shift_features(inputs.x, exists, *state);
    shifted.state = state->inner();
    return fn_->run(shifted);
  }
  const auto groups = static_cast<int64_t>(shifts_.size());
  auto parts = inputs.x.split(inputs.x.size(-1) / groups, -1);
  for (int64_t group = 0; group < groups; ++group) {
    parts[group] = shift(parts[group], shifts_[group], exists, inputs.documents);
  }
  shifted.x = at::cat(parts, -1);
  return fn_->run(shifted);
}

LayerScale::LayerScale(const LayerScaleOptions& options, std::shared_ptr<Block> fn)
    : WrappedBlock(std::move(fn)), offset_(options.unit_offset ? 1.0 : 0.0) {
  require_size(options.dim, "dim");
  gamma_ = register_parameter("gamma", at::full({options.dim}, options.init_value - offset_));
}

BranchOutput LayerScale::run(const BranchInputs& inputs) {
  auto result = fn_->run(inputs);
  result.out = result.out * (gamma_ + offset_);
  return result;
}

AdaptiveLayerScale::AdaptiveLayerScale(const AdaptiveLayerScaleOptions& options,
                                       std::shared_ptr<Block> fn)
    : WrappedBlock(std::move(fn)) {
  require_size(options.dim, "dim");
  require_size(options.dim_condition, "dim_condition");
  auto scope = register_module("to_gamma", make_scope());
  weight_ = scope->register_parameter(
      "weight", at::zeros({options.dim, options.dim_condition.value_or(options.dim)}));
  bias_ = scope->register_parameter("bias", at::full({options.dim}, options.init_bias_value));
}

BranchOutput AdaptiveLayerScale::run(const BranchInputs& inputs) {
  auto result = fn_->run(inputs);
  const auto& condition = inputs.condition;
  const auto expanded = condition.dim() == 2 ? condition.unsqueeze(1) : condition;
  result.out = result.out * linear(expanded, weight_, bias_).sigmoid();
  return result;
}

}  // namespace x_transformers
