#include "x_transformers/wrappers/token_masking.h"

#include <ATen/ATen.h>

#include <tuple>

#include "x_transformers/ops/full_precision.h"

namespace x_transformers {
namespace {

/// Where the entries of each row stand in order.
at::Tensor places(const at::Tensor& t) { return std::get<1>(t.sort(-1)); }

/// A random part of the tokens in `mask` [b, n], rounded up: `part` is a number or [].
template <class Part>
at::Tensor random_part(const at::Tensor& mask, const Part& part) {
  const auto count = (mask.sum(-1, true) * part).clamp_min(0);
  const auto numbers = at::rand(mask.sizes(), mask.options().dtype(at::kFloat));
  const auto order = places(places(numbers.masked_fill(mask.logical_not(), -1)));
  // What is not in the mask comes first in that order.
  const auto rank = order - mask.logical_not().sum(-1, true);
  return (rank < count) & mask;
}

}  // namespace

Coin::Coin(double probability, const at::Device& device)
    : heads_(at::rand({}, at::TensorOptions(device).dtype(at::kFloat)) < probability) {
  if (device.is_cpu() && !heads_.is_meta()) may_be_heads_ = heads_.item<bool>();
}

MaskedTokens mask_tokens(const at::Tensor& tokens, const MaskSchedule& schedule,
                         const MaskingOptions& o) {
  const auto b = tokens.size(0), n = tokens.size(1);
  const auto device = tokens.device();
  const auto floats = tokens.options().dtype(at::kFloat);
  MaskedTokens result;
  result.times = at::empty({b}, floats).uniform_(0, 1);
  const auto order = places(at::rand({b, n}, floats));
  const auto count = (schedule(result.times) * n).clamp_min(1);
  result.mask = order < count.unsqueeze(-1);
  result.tokens = tokens;

  auto replaced = result.mask;
  at::Tensor left = at::ones({}, floats);
  if (o.no_replace_prob > 0) {
    const Coin coin(0.5, device);
    if (coin.may_be_heads()) {
      const auto kept = random_part(result.mask, o.no_replace_prob);
      replaced = replaced & (kept & coin.heads()).logical_not();
      left = 1 - o.no_replace_prob * coin.heads().to(at::kFloat);
    }
  }
  if (o.random_token_prob > 0) {
    const Coin coin(0.5, device);
    if (coin.may_be_heads()) {
      const auto changed = random_part(replaced, o.random_token_prob * left) & coin.heads();
      const auto random = at::randint(0, o.num_tokens, {b, n}, tokens.options());
      result.tokens = at::where(changed, random, result.tokens);
      replaced = replaced & changed.logical_not();
    }
  }
  result.tokens = result.tokens.masked_fill(replaced, o.mask_id);
  return result;
}

at::Tensor masked_gumbel_noise(const at::Tensor& t, const std::optional<at::Generator>& generator) {
  constexpr double kMin = 1e-10;
  const auto uniform = at::empty_like(in_full_precision(t)).uniform_(0, 1, generator);
  return -(-(uniform + kMin).log() + kMin).log();
}

}  // namespace x_transformers
