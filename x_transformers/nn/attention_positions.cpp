// Where queries and keys stand: rotated by rotary or polar angles, or with a bias of their scores.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/positions/rotary.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {

at::Tensor AttentionImpl::rotate_heads(
    const at::Tensor& t, const std::function<at::Tensor(const at::Tensor&)>& turn) const {
  return rotate_last_heads(t, rotate_num_heads_, options_.heads, turn);
}

at::Tensor AttentionImpl::rotate_keys(const at::Tensor& keys, const RotaryAngles& angles,
                                      int64_t new_tokens) const {
  const auto positions = angles.freqs.size(-2), needed = keys.size(2) + new_tokens;
  expect(positions >= needed, at("rotary_pos_emb"), positions,
         "angles of {} positions, cached ones among them", needed);
  const auto used = angles.rows(keys.size(2), new_tokens);
  return rotate_heads(keys, [&](const at::Tensor& t) {
    return apply_rotary_angles(t, used, /*inverse_scale=*/true);
  });
}

/// Keys and values of one context, in as many rows as their positions have.
void AttentionImpl::repeat_keys(Projected& p, int64_t rows) {
  p.k = with_rows(p.k, rows);
  p.v = with_rows(p.v, rows);
}

void AttentionImpl::rotate(const AttentionInputs& inputs, Projected& p) const {
  if (inputs.rotary && inputs.rotary->angles.defined()) {
    const auto& angles = inputs.rotary->angles;
    const auto& context = inputs.rotary->context_angles;
    const auto& key_angles = inputs.context.defined() && context.defined() ? context : angles;
    const bool has_table = inputs.context.defined() && inputs.rotary->keys.cos.defined();
    require_angles(angles.freqs, p.q, "rotary_pos_emb");
    repeat_keys(p, has_table ? inputs.rotary->keys.cos.size(0) : key_angles.freqs.size(0));
    if (!has_table) {
      require_angles(key_angles.freqs, p.k,
                     context.defined() ? "context_rotary_pos_emb" : "rotary_pos_emb");
    }
    p.q = rotate_heads(p.q, [&](const at::Tensor& t) {
      return apply_rotary_angles(t, angles, /*inverse_scale=*/false);
    });
    p.k = rotate_heads(p.k, [&](const at::Tensor& t) {
      return has_table ? apply_rotary(t, inputs.rotary->keys, /*inverse_scale=*/true)
                       : apply_rotary_angles(t, key_angles, /*inverse_scale=*/true);
    });
  } else if (inputs.rotary) {
    const bool rotates_all_keys = to_latent_kv_ && inputs.cache;
    const auto& key_table = rotates_all_keys ? inputs.rotary->all_keys : inputs.rotary->keys;
    repeat_keys(p, key_table.cos.size(0));
    p.q = rotate_heads(p.q, [&](const at::Tensor& t) {
      return apply_rotary(t, inputs.rotary->queries, /*inverse_scale=*/false);
    });
    p.k = rotate_heads(p.k, [&](const at::Tensor& t) {
      return apply_rotary(t, key_table, /*inverse_scale=*/true);
    });
  }
  if (inputs.polar) {
    require_angles(inputs.polar->queries, p.q, "polar_pos_emb");
    repeat_keys(p, inputs.polar->keys.size(0));
    require_angles(inputs.polar->keys, p.k, "polar_pos_emb");
    p.q = apply_polar_pos_emb(p.q, inputs.polar->queries);
    // The angles of keys have a bias for each query head.
    p.k = repeat_heads(p.k, options_.heads);
    p.v = repeat_heads(p.v, options_.heads);
    p.k = apply_polar_pos_emb(p.k, inputs.polar->keys);
  }
}

/// Keys that have no position, as xpos scales them.
at::Tensor AttentionImpl::without_position(const AttentionInputs& inputs,
                                           const at::Tensor& keys) const {
  if (!inputs.rotary || !inputs.rotary->scale_without_position.defined()) return keys;
  const auto scale = inputs.rotary->scale_without_position.repeat_interleave(2);
  return rotate_heads(keys, [&](const at::Tensor& t) {
    const auto d = scale.size(0);
    return at::cat({t.narrow(-1, 0, d) * scale, t.narrow(-1, d, t.size(-1) - d)}, -1);
  });
}

namespace {
/// The bias of a rel_pos, [.., queries, sequence_keys]: queries stand at the end of the keys, or
/// all of them where `pos` says.
at::Tensor bias_of(const AttentionInputs& inputs, int64_t queries, int64_t sequence_keys) {
  require(!inputs.attn_bias.defined(), among({"rel_pos", "attn_bias"}), "at most one of them");
  if (inputs.pos.defined()) {
    require(inputs.rel_pos->takes_positions(), at("pos"),
            "of the position biases only AlibiPositionalBias takes positions from outside");
    const auto& pos = inputs.pos;
    const auto batch = inputs.x.size(-3);
    const bool fits = pos.dim() >= 1 && pos.dim() <= 3 && queries <= sequence_keys &&
                      (pos.size(-1) == sequence_keys || pos.size(-1) == 1) &&
                      (pos.dim() == 1 || pos.size(0) == 1 || pos.size(0) == batch);
    const auto* which = sequence_keys == queries ? "" : ", cached tokens and memories among them";
    expect(fits, at("pos"), shown(pos.sizes()),
           "positions [seq = {}], [batch = {}, seq] or [batch, heads, seq]{}", sequence_keys, batch,
           which);
    if (pos.size(-1) == 1) return inputs.rel_pos->forward({pos, pos, 0});
    return inputs.rel_pos->forward({pos.narrow(-1, sequence_keys - queries, queries), pos, 0});
  }
  const auto options = at::TensorOptions().dtype(at::kLong).device(inputs.x.device());
  return inputs.rel_pos->forward({at::arange(sequence_keys - queries, sequence_keys, options),
                                  at::arange(sequence_keys, options),
                                  std::max(queries, sequence_keys)});
}

}  // namespace

void AttentionImpl::place_scores(const AttentionInputs& inputs, const at::Tensor& x,
                                 int64_t sequence_keys, int64_t keys, Attend::Call& call) {
  auto* earlier = inputs.cache && options_.causal ? &inputs.cache->gates : nullptr;
  at::Tensor bias;
  if (inputs.rel_pos) {
    bias = bias_of(inputs, x.size(1), sequence_keys);
    require(bias.size(-3) == options_.heads || bias.size(-3) == 1, at("rel_pos"),
            "has {}, expected heads = {}", how_many(bias.size(-3), "head"), options_.heads);
  } else {
    bias = spread_over_keys(inputs.attn_bias, sequence_keys, keys);
  }
  if (per_row_alibi_) bias = per_row_alibi_->forward(x, earlier);
  if (data_dependent_alibi_) {
    if (const auto terms = data_dependent_alibi_->terms(x, earlier)) {
      call.position = *terms;
      return;
    }
    bias = data_dependent_alibi_->forward(x);
  }
  if (bias.defined()) {
    const auto front = keys - bias.size(-1);
    call.attn_bias = front == 0 ? bias : at::constant_pad_nd(bias, {front, 0}, 0);
  } else {
    call.position = inputs.position;
    add_front(call.position, keys - sequence_keys);
  }
}

}  // namespace x_transformers
