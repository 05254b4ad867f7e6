// scaled_dot_product_attention of LibTorch, for programs of a similarity, a bias, masks, the
// softmax and dropout.
#include <ATen/ATen.h>

#include <limits>
#include <optional>

#include "x_transformers/ops/attend_engine.h"
#include "x_transformers/ops/distance_features.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

struct SdpaParameters {
  double scale = 1.0;
  bool l2_distance = false;
  at::Tensor bias, mask;
  PositionStage position;
  std::optional<int64_t> window;
  bool every_query_has_keys = true;  ///< as far as `mask` is concerned
  bool causal = false;
  double dropout = 0.0;
};

const KnownStages<SdpaParameters>& sdpa_stages() {
  using Call = AttendCall;
  using P = SdpaParameters;
  using R = Reasons;
  static const auto all =
      KnownStages<SdpaParameters>()
          .add<stages::DotProduct>([](const auto& s, const Call&, P& p, R&) { p.scale = s.scale; })
          .add<stages::L2Distance>([](const auto& s, const Call& call, P& p, R& reasons) {
            p.scale = s.scale;
            p.l2_distance = true;
            // On the CPU LibTorch's kernels hold the scores anyway.
            reasons.add_if(!call.q.is_cuda(), "l2_distance");
            reasons.add_if(call.q.scalar_type() == at::kHalf,
                           "l2_distance in float16, whose range its squares leave");
          })
          .add<stages::Alibi>([](const auto& s, const Call&, P& p, R&) { p.position = s; })
          .add<stages::DistanceBias>([](const auto& s, const Call&, P& p, R&) { p.position = s; })
          .add<stages::TokenBias>([](const auto& s, const Call&, P& p, R&) { p.position = s; })
          .add<stages::Bias>([](const auto& s, const Call&, P& p, R&) { p.bias = s.bias; })
          .add<stages::Mask>([](const auto& s, const Call&, P& p, R&) {
            p.mask = s.allowed;
            p.every_query_has_keys =
                !s.allowed.defined() || (s.cached.defined() && !s.cached.visible.defined());
          })
          .add<stages::Causal>([](const auto&, const Call&, P& p, R&) { p.causal = true; })
          .add<stages::Window>([](const auto& s, const Call&, P& p, R&) { p.window = s.past; })
          .add<stages::Softmax>()
          .add<stages::Dropout>([](const auto& s, const Call&, P& p, R& reasons) {
            p.dropout = s.probability;
            reasons.add_if(s.factors.defined(), "the factors of dropout are given");
          });
  return all;
}

Reasons sdpa_reasons(const AttendCall& call) {
  auto reasons = reasons_against_fused(call);
  sdpa_stages().read(call, reasons);
  reasons.add_if(call.k.size(2) == 0, "there are no keys");
  return reasons;
}

/// What is added to the scores: the bias, and minus infinity where the mask is false; where there
/// is no bias, the mask. [b, 1 or h, i, j], or undefined.
at::Tensor bias_with_mask(const SdpaParameters& p, const at::Tensor& mask, const at::Tensor& q,
                          int64_t j) {
  const auto i = q.size(2);
  auto bias = mask.defined() && mask.dim() < 4 ? mask.expand({1, 1, i, j}) : mask;
  if (p.bias.defined()) {
    const auto all = bias;
    bias = p.bias.to(q.scalar_type());
    if (all.defined()) bias = bias.masked_fill(~all, -std::numeric_limits<double>::infinity());
    while (bias.dim() < 4) bias = bias.unsqueeze(0);
  }
  return bias.defined() ? bias.expand({q.size(0), bias.size(1), i, j}) : bias;
}

at::Tensor products(at::Tensor q, at::Tensor k, at::Tensor v, const SdpaParameters& p) {
  const auto heads = q.size(1), kv_heads = k.size(1), i = q.size(2), j = k.size(2);
  bool causal = p.causal && i > 1;
  auto mask = p.mask;
  // The fused kernels align their causal mask top left and take no second mask beside it.
  const bool causal_alone = i == j && !mask.defined() && !p.bias.defined();
  if (causal && !causal_alone) mask = mask_and(mask, causal_mask(i, j, q.device()));
  at::Tensor has_keys;
  if (!p.every_query_has_keys || (causal && i > j)) {
    has_keys = mask.any(-1, true);
    mask = mask | ~has_keys;  // keeps NaN out of rows that are zeroed below
  }
  causal = causal && causal_alone;
  auto bias = bias_with_mask(p, mask, q, j);

  // Values that were mixed for each query head have all heads, while keys are still grouped.
  const bool is_decode =
      i == 1 && kv_heads < heads && v.size(1) == kv_heads && (!bias.defined() || bias.size(1) == 1);
  if (is_decode) {
    // One query: the heads of a group are rows of one small product, and no key is copied.
    q = q.unflatten(1, {heads / kv_heads, kv_heads}).squeeze(3).transpose(1, 2);
    if (bias.defined()) bias = bias.expand({bias.size(0), 1, heads / kv_heads, j});
  } else {
    k = repeat_heads(k, heads);
    v = repeat_heads(v, heads);
  }
  const auto attn_mask = bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt;
  auto out = at::scaled_dot_product_attention(q, k, v, attn_mask, p.dropout, causal, p.scale);
  if (is_decode) out = out.transpose(1, 2).flatten(1, 2).unsqueeze(2);
  return has_keys.defined() ? out.masked_fill(~has_keys, 0) : out;
}

AttendResult run_sdpa(const AttendCall& call) {
  auto parameters = sdpa_stages().read(call);
  const auto queries = call.q.size(2), keys = call.k.size(2);
  parameters.bias = sum_of_biases(parameters.bias, bias_of(parameters.position, queries, keys));
  if (parameters.window) {
    const auto window = window_mask(queries, keys, *parameters.window, call.q.device());
    parameters.mask = mask_and(parameters.mask, window);
  }
  if (!parameters.l2_distance) return {products(call.q, call.k, call.v, parameters), {}};
  // Distances as products. LibTorch's flash attention wants as many features of values as of keys,
  // and a multiple of eight.
  constexpr int64_t kMultiple = 8;
  const auto features = distance_features(call.q, call.k, call.v.size(-1), kMultiple);
  const auto more = features.q.size(-1) - call.v.size(-1);
  const auto padded = at::constant_pad_nd(call.v, {0, more}, 0);
  parameters.scale *= 2;
  const auto out = products(features.q, features.k, padded, parameters);
  return {out.narrow(-1, 0, call.v.size(-1)), {}};
}

}  // namespace

ListedEngine sdpa_engine() {
  return {{"sdpa", sdpa_reasons, run_sdpa},
          [](StageType stage) { return sdpa_stages().contains(stage); }};
}

}  // namespace x_transformers
