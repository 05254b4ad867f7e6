// Where a stack's tokens stand: tables, angles and masks of their positions, and the bias of
// positions.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_layers_state.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

/// Places in a static cache, counted from where its memories end. Without memories nothing is to be
/// computed, which would be a launch for every token.
at::Tensor without_memory(const at::Tensor& places, int64_t memory) {
  return memory == 0 ? places : places - memory;
}

/// Positions counted from the end of the padding. What has no position, or one of its own (memory
/// key/values, CoPE, a context), sees from where those of the tokens count.
at::Tensor count_from_start(const at::Tensor& places, const at::Tensor& start) {
  return start.defined() ? places - start.unsqueeze(-1) : places;
}

}  // namespace

AttentionLayersImpl::Places AttentionLayersImpl::places_of(const AttentionLayersInputs& inputs) {
  const auto n = inputs.x.size(1);
  const auto* cache = inputs.cache;
  const bool is_static = cache && cache->position.defined();
  const auto past = cache ? cache->length : 0;
  const auto memory = inputs.memory_given();
  const auto& start = inputs.seq_start_pos;
  Places places;
  places.tokens = is_static ? without_memory(cache->position, cache->memory_length)
                            : range_like(past, past + n, inputs.x);
  places.queries = inputs.pos.defined() ? inputs.pos : count_from_start(places.tokens, start);
  places.new_keys = places.queries;
  if (memory > 0 && !inputs.pos.defined()) {
    const auto end = past > 0 ? 0 : n;
    places.new_keys = count_from_start(range_like(-memory, end, inputs.x), start);
    if (past > 0) places.new_keys = at::cat({places.new_keys, places.queries}, -1);
  }
  places.memory = cache ? cache->memory_length + memory : 0;
  places.keys = is_static ? cache->capacity : places.memory + past + n;
  return places;
}

/// Positions of all keys.
at::Tensor AttentionLayersImpl::positions_of_keys(const AttentionLayersInputs& inputs,
                                                  const Places& places) {
  if (inputs.pos.defined() && inputs.pos.size(-1) == places.keys) return inputs.pos;
  return count_from_start(range_like(-places.memory, places.keys - places.memory, inputs.x),
                          inputs.seq_start_pos);
}

void AttentionLayersImpl::place_rotary(const AttentionLayersInputs& inputs, const Places& places,
                                       State& state) const {
  const auto* cache = inputs.cache;
  const auto center = cache ? std::optional(cache->rotary.xpos_center) : std::nullopt;
  if (inputs.rotary_pos_emb.defined()) {
    state.rotary.emplace().angles = inputs.rotary_pos_emb;
  } else if (rotary_pos_emb_) {
    auto& rotary = state.rotary.emplace();
    rotary.queries = rotary_pos_emb_->forward(places.queries, center);
    rotary.keys = places.new_keys.is_same(places.queries)
                      ? rotary.queries
                      : rotary_pos_emb_->forward(places.new_keys, center);
    if (cache && (options_.attn.num_mem_kv > 0 || !inputs.self_attn_additional_kv.empty())) {
      rotary.scale_without_position =
          rotary_pos_emb_->scale_without_position(places.queries, cache->rotary.xpos_center);
    }
    if (cache && options_.attn.use_latent_kv)
      rotary.all_keys = rotary_pos_emb_->forward(positions_of_keys(inputs, places), center);
  }
  if (!inputs.context_pos.defined() || !rotary_pos_emb_) return;
  auto& cross = state.cross_rotary.emplace();
  cross.angles = inputs.rotary_pos_emb;
  if (!inputs.rotary_pos_emb.defined()) cross.queries = rotary_pos_emb_->forward(places.queries);
  cross.keys = rotary_pos_emb_->forward(inputs.context_pos);
}

void AttentionLayersImpl::place_polar(const AttentionLayersInputs& inputs, const Places& places,
                                      State& state) const {
  if (inputs.polar_pos_emb.defined()) {
    state.polar = PolarInputs{inputs.polar_pos_emb.angles, inputs.polar_pos_emb.of_keys()};
  } else if (polar_pos_emb_) {
    const bool has_all_keys = inputs.cache && options_.attn.use_latent_kv;
    const auto keys = has_all_keys ? positions_of_keys(inputs, places) : places.new_keys;
    state.polar =
        PolarInputs{polar_pos_emb_->forward(places.queries),
                    polar_pos_emb_->forward(keys).unsqueeze(1) + polar_pos_emb_->key_bias()};
  }
}

/// Tables, angles and masks of the positions of queries and keys.
void AttentionLayersImpl::place(const AttentionLayersInputs& inputs, State& state) const {
  auto places = places_of(inputs);
  if (state.documents) places.queries = places.new_keys = state.documents->places;
  place_rotary(inputs, places, state);
  place_polar(inputs, places, state);
  const bool is_static = inputs.cache && inputs.cache->position.defined();
  if (is_static) {
    const auto keys = without_memory(inputs.cache->key_indices, places.memory);
    state.attn_mask = keys <= places.tokens.unsqueeze(-1);
  }
  if (!inputs.seq_start_pos.defined()) return;
  const auto start = inputs.seq_start_pos.unsqueeze(-1);
  state.started = places.tokens >= start;
  const auto tokens = inputs.token_keys();
  auto started = range_like(0, tokens, inputs.x) >= start;
  auto& mask = state.self_attn_kv_mask;
  // A mask that has memories too is wider.
  if (mask.defined()) started = pad_mask_left(started, mask.size(-1) - tokens);
  mask = mask_and(mask, started);
}

/// Whether self-attentions get a bias of positions; none reaches cross attention.
bool AttentionLayersImpl::has_position_bias() const {
  return rel_pos_ && plan_.count(LayerType::attention) > 0;
}

namespace {

/// How many tokens, those of memories among them, a cache holds.
int64_t tokens_before(const LayersCache* cache) {
  return cache ? cache->memory_length + cache->length : 0;
}

}  // namespace

/// What positions add to scores in a layer with `memory` tokens of memory given, where queries
/// stand at the last keys and it needs no matrix; else none.
PositionStage AttentionLayersImpl::stage_of_positions(const AttentionLayersInputs& inputs,
                                                      int64_t memory) const {
  const auto* cache = inputs.cache;
  const bool stands_elsewhere = inputs.pos.defined() || (cache && cache->position.defined());
  if (!has_position_bias() || stands_elsewhere) return {};
  return rel_pos_->stage(memory + tokens_before(cache) + inputs.x.size(1));
}

/// The bias of positions in a layer with `memory` tokens of memory given.
at::Tensor AttentionLayersImpl::bias_of_positions(const AttentionLayersInputs& inputs,
                                                  int64_t memory) const {
  const auto n = inputs.x.size(1);
  const auto* cache = inputs.cache;
  PositionPairs pairs;
  if (inputs.pos.defined()) {
    require(!cache || !cache->position.defined(), at("pos"),
            "positions from outside cannot be combined with a static cache and a position bias");
    require(rel_pos_->takes_positions(), at("pos"),
            "of the position biases only ALiBi takes positions from outside");
    // Of what is cached too: the new tokens stand at its end.
    const auto keys = inputs.token_keys();
    const auto pos = inputs.pos.narrow(-1, inputs.pos.size(-1) - keys, keys);
    pairs = {pos.narrow(-1, keys - n, n), pos, 0};
  } else {
    const auto before = memory + tokens_before(cache);
    const bool is_static = cache && cache->position.defined();
    const auto total = is_static ? cache->capacity : before + n;
    pairs.queries = is_static ? cache->position : range_like(before, before + n, inputs.x);
    pairs.keys = range_like(0, total, inputs.x);
    pairs.span = total;
  }
  return rel_pos_->forward(pairs);
}

std::pair<at::Tensor, at::Tensor> AttentionLayersImpl::place_cached(
    const at::Tensor& keys, const at::Tensor& values, const CachedPlaces& places) const {
  if (options_.attn.use_latent_kv) return {keys, values};
  const auto count = keys.size(-2);
  const auto polar = [&](const at::Tensor& angles) {
    return std::pair{apply_polar_pos_emb(repeat_heads(keys, options_.heads), angles),
                     repeat_heads(values, options_.heads)};
  };
  const auto rotated = options_.attn.rotate_num_heads.value_or(options_.heads);
  const auto turn = [&](const auto& rotate) {
    return std::pair{rotate_last_heads(keys, rotated, options_.heads, rotate), values};
  };
  const auto require_rows = [&](const at::Tensor& angles, const char* name) {
    const auto given = angles.size(-2), needed = count + places.new_tokens;
    expect(given >= needed, at(name), given, "angles of {} positions, cached ones among them",
           needed);
  };
  if (places.polar.defined()) {
    require_rows(places.polar, "polar_pos_emb");
    const auto begin = places.polar.size(-2) - places.new_tokens - count;
    return polar(places.polar.narrow(-2, begin, count));
  }
  if (places.rotary.defined()) {
    require_rows(places.rotary.freqs, "rotary_pos_emb");
    const auto used = places.rotary.rows(count, places.new_tokens);
    return turn(
        [&](const at::Tensor& t) { return apply_rotary_angles(t, used, /*inverse_scale=*/true); });
  }
  const auto positions = places.pos.defined()
                             ? places.pos
                             : count_from_start(range_like(0, count, keys), places.seq_start_pos);
  if (polar_pos_emb_)
    return polar(polar_pos_emb_->forward(positions).unsqueeze(1) + polar_pos_emb_->key_bias());
  if (!rotary_pos_emb_) return {keys, values};
  const auto table = rotary_pos_emb_->forward(positions, places.rotary_state.xpos_center);
  return turn([&](const at::Tensor& t) { return apply_rotary(t, table, /*inverse_scale=*/true); });
}

at::Tensor AttentionLayersImpl::place_cached_context(const at::Tensor& keys,
                                                     const at::Tensor& context_pos) const {
  if (!context_pos.defined() || !rotary_pos_emb_) return keys;
  const auto count = keys.size(-2), given = context_pos.size(-1);
  expect(given >= count, at("context_pos"), given, "positions of {} cached keys", count);
  const auto pos = context_pos.narrow(-1, given - count, count);
  // Cross attention rotates all heads, whatever rotate_num_heads says.
  return apply_rotary(keys, rotary_pos_emb_->forward(pos), /*inverse_scale=*/true);
}

}  // namespace x_transformers
