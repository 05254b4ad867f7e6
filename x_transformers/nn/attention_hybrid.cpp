// A module beside the heads of an attention, whose outputs are mixed with theirs (hybrid_module).
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdint>

#include "x_transformers/core/error.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/ops/heads.h"

namespace x_transformers {

namespace {
/// x [b, n, d] with each batch entry's tokens from `start` [b or 1] on in front, and what stood
/// before them at the end.
at::Tensor from_start(const at::Tensor& x, const at::Tensor& start) {
  const auto n = x.size(1);
  const auto source = (at::arange(n, start.options()) + start.unsqueeze(-1)).remainder(n);
  return x.gather(1, source.unsqueeze(-1).expand_as(x));
}

/// The entries `places` ([b or 1, count]) of t [b, n, d] or [b, h, n, d].
at::Tensor entries_at(const at::Tensor& t, const at::Tensor& places) {
  auto sizes = t.sizes().vec();
  sizes[sizes.size() - 2] = places.size(-1);
  auto index = places.unsqueeze(-1);
  if (t.dim() == 4) index = index.unsqueeze(1);
  return t.gather(-2, index.expand(sizes));
}
}  // namespace

/// What the hybrid module makes of the tokens x, seeing the earlier ones in a cache.
CallableModule::Result AttentionImpl::run_hybrid(const AttentionInputs& inputs,
                                                 const at::Tensor& x) const {
  CallableModule::NamedTensors arguments;
  if (!options_.causal && options_.hybrid_mask_kwarg && inputs.mask.defined()) {
    arguments[*options_.hybrid_mask_kwarg] = inputs.mask;
  }
  if (inputs.hybrid_hidden.defined()) arguments["hx"] = inputs.hybrid_hidden;
  const bool starts = hybrid_module_.is_causal && !inputs.hybrid_hidden.defined();
  const bool goes_on = inputs.cache && starts;
  auto tokens = goes_on ? inputs.cache->hybrid_inputs.append(x) : x;
  // A causal module does not see the padding where it stands after a prompt.
  const bool is_padded = starts && inputs.seq_start_pos.defined() && !hybrid_module_.is_per_token;
  if (is_padded) tokens = from_start(tokens, inputs.seq_start_pos);
  auto hybrid = hybrid_module_.call(tokens, arguments);
  if (!goes_on && !is_padded) return hybrid;
  auto places = goes_on ? inputs.cache->hybrid_inputs.places(x.size(1))
                        : at::arange(x.size(1), inputs.seq_start_pos.options());
  if (is_padded) {
    places = (places - inputs.seq_start_pos.unsqueeze(-1)).remainder(tokens.size(1));
    hybrid.out = entries_at(hybrid.out, places);
  } else {
    hybrid.out = hybrid.out.index_select(-2, places);
  }
  return hybrid;
}

/// The heads' outputs [b, h, n, d] mixed with those of the hybrid module, both normed.
at::Tensor AttentionImpl::mix_hybrid(const AttentionInputs& inputs, const at::Tensor& x,
                                     at::Tensor out, AttentionOutput& result) {
  const auto hybrid = run_hybrid(inputs, x);
  result.hybrid_hidden = hybrid.hidden;
  const auto features = value_dim_head_ * options_.heads;
  expect(hybrid.out.dim() == 4 || hybrid.out.size(-1) == features, at("hybrid_module"),
         hybrid.out.size(-1), "{} * {} = {} features", option("heads"), option("dim_head"),
         features);
  const auto heads = hybrid.out.dim() == 4 ? hybrid.out : split_heads(hybrid.out, options_.heads);
  out = hybrid_out_norm_->forward(out);
  const auto other = hybrid_norm_->forward(heads);
  if (!hybrid_mix_) return 0.5 * (out + other);
  const auto mix = hybrid_mix_->forward(x).sigmoid().transpose(1, 2).unsqueeze(-1);
  return at::lerp(out, other, mix);
}

}  // namespace x_transformers
