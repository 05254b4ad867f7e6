#include "x_transformers/nn/blocks.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/nn/linear.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {

AttentionOutput Scale::run(const BlockInputs& inputs) {
  auto result = fn_->run(inputs);
  result.out = result.out * value_;
  return result;
}

namespace {
/// Tokens moved `amount` positions later (earlier if negative), zeros moved in.
at::Tensor shift(const at::Tensor& t, int64_t amount, const at::Tensor& mask) {
  if (amount == 0) return t;
  amount = std::min(amount, t.size(1));
  return at::constant_pad_nd(zero_masked_rows(t, mask), {0, 0, amount, -amount}, 0);
}
}  // namespace

AttentionOutput ShiftTokens::run(const BlockInputs& inputs) {
  const auto groups = static_cast<int64_t>(shifts_.size());
  auto parts = inputs.attention.x.split(inputs.attention.x.size(-1) / groups, -1);
  for (int64_t group = 0; group < groups; ++group) {
    parts[group] = shift(parts[group], shifts_[group], inputs.attention.mask);
  }
  auto shifted = inputs;
  shifted.attention.x = at::cat(parts, -1);
  return fn_->run(shifted);
}

std::string ShiftTokens::cache_refusal() const {
  return "shift_tokens needs the features of earlier tokens, which caches do not keep yet";
}

LayerScale::LayerScale(std::shared_ptr<Block> fn, int64_t dim, double init_value, bool unit_offset)
    : WrappedBlock(std::move(fn)), offset_(unit_offset ? 1.0 : 0.0) {
  gamma_ = register_parameter("gamma", at::full({dim}, init_value - offset_));
}

AttentionOutput LayerScale::run(const BlockInputs& inputs) {
  auto result = fn_->run(inputs);
  result.out = result.out * (gamma_ + offset_);
  return result;
}

AdaptiveLayerScale::AdaptiveLayerScale(std::shared_ptr<Block> fn, int64_t dim,
                                       int64_t dim_condition, double init_bias_value)
    : WrappedBlock(std::move(fn)) {
  auto scope = register_module("to_gamma", make_scope());
  weight_ = scope->register_parameter("weight", at::zeros({dim, dim_condition}));
  bias_ = scope->register_parameter("bias", at::full({dim}, init_bias_value));
}

AttentionOutput AdaptiveLayerScale::run(const BlockInputs& inputs) {
  auto result = fn_->run(inputs);
  const auto& condition = inputs.condition;
  const auto expanded = condition.dim() == 2 ? condition.unsqueeze(1) : condition;
  result.out = result.out * linear(expanded, weight_, bias_).sigmoid();
  return result;
}

}  // namespace x_transformers
