#include "x_transformers/models/embedded_sequence.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {
namespace {

/// A mask [1, length] that hides nothing.
at::Tensor all_true(int64_t length, const at::Tensor& like) {
  return at::ones({1, length}, like.options().dtype(at::kBool));
}

at::Tensor expand_batch(const at::Tensor& tokens, int64_t batch) {
  return tokens.unsqueeze(0).expand({batch, -1, -1});
}

/// A mask [b, n] with entries for the memory tokens in front of each group of tokens.
at::Tensor mask_of_groups(const at::Tensor& mask, int64_t every, int64_t count) {
  if (!mask.defined()) return mask;
  const auto padding = (every - mask.size(1) % every) % every;
  const auto groups = at::constant_pad_nd(mask, {0, padding}, 0).unflatten(1, {-1, every});
  return at::constant_pad_nd(groups, {count, 0}, 1).flatten(1);
}

}  // namespace

EmbeddedSequence::EmbeddedSequence(at::Tensor embedded, const SequenceInputs& inputs)
    : x(std::move(embedded)), inputs_(inputs), mask_(inputs.mask), tokens_(x.size(1)) {
  const auto& mask = inputs.layers.self_attn_kv_mask;
  const auto all = (inputs.goes_on() ? inputs.cache->length() : 0) + tokens_;
  if (mask.defined() && mask.dim() == 2 && mask.size(1) == all) kv_mask_ = mask;
}

void EmbeddedSequence::prepend(const at::Tensor& prepend_mask) {
  const auto& embeds = inputs_.prepend_embeds;
  if (!embeds.defined()) return;
  const auto added = embeds.size(1), before = x.size(1);
  x = cat_rows(embeds, x, 1);
  prefix_ += added;
  kv_mask_ = pad_mask_left(kv_mask_, added);
  if (!prepend_mask.defined() && !mask_.defined()) return;
  if (mask_.defined() && mask_.size(1) == before + added) return;
  const auto of_tokens = mask_.defined() ? mask_ : all_true(before, x);
  mask_ = cat_rows(prepend_mask.defined() ? prepend_mask : all_true(added, x), of_tokens, 1);
}

void EmbeddedSequence::put_in_front(const at::Tensor& learned_tokens) {
  if (!learned_tokens.defined() || inputs_.goes_on()) return;
  const auto count = learned_tokens.size(0);
  x = at::cat({expand_batch(learned_tokens, x.size(0)), x}, 1);
  prefix_ += count;
  for (auto* mask : {&mask_, &kv_mask_}) *mask = pad_mask_left(*mask, count);
}

void EmbeddedSequence::add_memory_tokens(const at::Tensor& memory_tokens,
                                         const std::optional<int64_t>& every) {
  before_memory_ = x.size(1);
  if (!memory_tokens.defined() || inputs_.goes_on()) return;
  const auto batch = x.size(0);
  memory_tokens_ = memory_tokens.size(0);
  every_ = every;
  if (!every) {
    put_in_front(memory_tokens);
    return;
  }
  const auto padding = (*every - x.size(1) % *every) % *every;
  const auto groups =
      at::constant_pad_nd(x, {0, 0, 0, padding}, 0).unflatten(1, {-1, *every}).flatten(0, 1);
  x = at::cat({expand_batch(memory_tokens, groups.size(0)), groups}, 1)
          .unflatten(0, {batch, -1})
          .flatten(1, 2);
  for (auto* mask : {&mask_, &kv_mask_}) *mask = mask_of_groups(*mask, *every, memory_tokens_);
}

/// Masks of a call with a cache: what stands in front of the tokens came with the first call, which
/// leaves its mask for later ones.
void EmbeddedSequence::join_cache(AttentionLayersInputs& layers) {
  auto& cache = *inputs_.cache;
  layers.cache = &cache.layers;
  if (!inputs_.goes_on()) {
    cache.prefix = prefix_;
    // Beside a mask of keys, the mask of tokens hides no keys.
    const bool hides_keys = !layers.seq_start_pos.defined() && !layers.self_attn_kv_mask.defined();
    cache.mask = hides_keys ? mask_ : at::Tensor();
    return;
  }
  kv_mask_ = pad_mask_left(kv_mask_, cache.prefix);
  if (mask_.defined() && mask_.size(1) == cache.length() + tokens_)
    mask_ = pad_mask_left(mask_, cache.prefix);
  if (cache.mask.defined()) {
    layers.self_attn_kv_mask =
        at::constant_pad_nd(cache.mask, {0, layers.token_keys() - cache.mask.size(1)}, 1);
  }
}

at::Tensor EmbeddedSequence::take_out_memory_tokens(at::Tensor out, SequenceOutput& output) const {
  if (memory_tokens_ == 0) return out;
  const auto batch = out.size(0);
  if (every_) out = out.unflatten(1, {-1, *every_ + memory_tokens_}).flatten(0, 1);
  output.memory_tokens = out.narrow(1, 0, memory_tokens_);
  out = out.narrow(1, memory_tokens_, out.size(1) - memory_tokens_);
  if (every_) out = out.unflatten(0, {batch, -1}).flatten(1, 2);
  return out.narrow(1, 0, before_memory_);
}

SequenceOutput EmbeddedSequence::run(AttentionLayersImpl& stack, AttentionLayersInputs layers) {
  return run([&](const AttentionLayersInputs& inputs) { return stack.forward(inputs); },
             std::move(layers));
}

SequenceOutput EmbeddedSequence::run(const RunLayers& run_layers, AttentionLayersInputs layers) {
  layers.x = x;
  layers.mems = inputs_.mems;
  layers.mem_masks = inputs_.mem_masks;
  if (inputs_.cache) join_cache(layers);
  layers.mask = mask_;
  if (kv_mask_.defined()) layers.self_attn_kv_mask = kv_mask_;
  layers.keep_hiddens = inputs_.keep_hiddens;
  layers.keep_maps = inputs_.keep_maps;
  layers.keep_caches = inputs_.keep_caches;
  SequenceOutput output;
  output.layers = run_layers(std::move(layers));
  output.embeddings = take_out_memory_tokens(output.layers.out, output);
  return output;
}

AxisSizes sequence_sizes(const SequenceInputs& inputs, const at::Tensor& tokens, int64_t features) {
  AxisSizes sizes;
  sizes[Axis::batch] = tokens.size(0);
  sizes[Axis::tokens] = tokens.size(1);
  sizes[Axis::emb_dim] = features;
  if (inputs.prepend_embeds.defined() && inputs.prepend_embeds.dim() == 3)
    sizes[Axis::prepended] = inputs.prepend_embeds.size(1);
  return sizes;
}

void require_mask(const SequenceInputs& inputs, const AxisSizes& sizes) {
  require_tensor(inputs.mask, "mask", TensorKind::boolean,
                 {{"batch", sizes[Axis::batch], true},
                  {"seq", inputs.goes_on() ? kAnySize : sizes[Axis::tokens]}});
}

void require_positions(const SequenceInputs& inputs, const AxisSizes& sizes) {
  const auto& pos = inputs.pos;
  if (!pos.defined()) return;
  const auto n = sizes[Axis::tokens];
  const auto length = inputs.goes_on() ? std::max(n, pos.dim() > 0 ? pos.size(-1) : 0) : n;
  require_broadcast(pos, "pos", TensorKind::integer,
                    {{"batch", sizes[Axis::batch]}, {"seq", length}});
}

Positions positions_of(const SequenceInputs& inputs, const at::Tensor& seq_start_pos,
                       int64_t count) {
  const auto* cache = inputs.goes_on() ? inputs.cache : nullptr;
  auto positions = Positions{inputs.pos, seq_start_pos, cache ? cache->length() : 0};
  const bool has_cached = cache && inputs.pos.defined() && inputs.pos.dim() > 0;
  if (has_cached && inputs.pos.size(-1) > count)
    positions.pos = inputs.pos.narrow(-1, inputs.pos.size(-1) - count, count);
  if (inputs.cache && inputs.cache->layers.position.defined() && !inputs.pos.defined()) {
    // Where nothing stands in front, no launch for every token.
    const auto& layers = inputs.cache->layers;
    const auto before = inputs.cache->prefix + layers.memory_length;
    positions.pos = before == 0 ? layers.position : layers.position - before;
  }
  return positions;
}

at::Tensor embed_positions(PositionalEmbedding& pos_emb, const SequenceInputs& inputs,
                           const at::Tensor& seq_start_pos, const at::Tensor& tokens) {
  const auto count = tokens.size(1);
  return pos_emb.forward(count, positions_of(inputs, seq_start_pos, count), tokens.device());
}

std::optional<TokenLimit> position_limit(const PositionalEmbedding* pos_emb) {
  const auto count = pos_emb ? pos_emb->position_count() : std::nullopt;
  return count ? std::optional(TokenLimit{*count, "max_seq_len"}) : std::nullopt;
}

}  // namespace x_transformers
