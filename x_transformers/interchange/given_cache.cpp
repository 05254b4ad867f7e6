#include "x_transformers/interchange/given_cache.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <tuple>

#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"

namespace x_transformers {
namespace {

/// Tensors of Python's dataclasses that a call gives back with the rest, and reads in no cache.
constexpr std::array kOfAttention = {"qk_similarities", "pre_softmax_attn", "post_softmax_attn",
                                     "values"};
constexpr std::array kOfLayers = {
    "initial_embeds",     "last_hidden",   "attn_z_loss",     "last_layer_hiddens",
    "attn_pooled_tokens", "memory_tokens", "logit_entropies", "logits"};
constexpr std::array kListsOfLayers = {"block_hiddens", "hiddens", "layer_hiddens", "mems"};

constexpr const char* kCacheIsTensors = "is given as tensors among the inputs, named as {}";
constexpr const char* kFirstOfCache = "cache.attn_intermediates.0.cached_kv.0";

/// Takes keys, values and hidden state below `name`; also, unread, the fields that Python returns
/// beside them.
GivenState take_attention(Arguments& arguments, const std::string& name) {
  GivenState given = {arguments.tensor(name + ".cached_kv.0"),
                      arguments.tensor(name + ".cached_kv.1"),
                      arguments.tensor(name + ".hybrid_hidden")};
  for (const auto* part : kOfAttention) arguments.tensor(name + "." + part);
  require(given.keys.defined() || (!given.values.defined() && !given.hidden.defined()),
          at(name + ".cached_kv.0"), "is needed where there is {}",
          option(name + (given.values.defined() ? ".cached_kv.1" : ".hybrid_hidden")));
  return given;
}

/// What is cached of a stack.
struct CachedStack {
  std::vector<GivenState> attentions;  ///< in the order of execution; one may have no cache
  at::Tensor length;                   ///< [] or [1], if the cache says it
};

CachedStack take_stack(Arguments& arguments, size_t attentions) {
  CachedStack cached;
  for (size_t i = 0; i < attentions; ++i) {
    cached.attentions.push_back(
        take_attention(arguments, fmt::format("cache.attn_intermediates.{}", i)));
  }
  // As in Python, those of attentions that do not exist change nothing.
  auto next = attentions;
  while (arguments.has(fmt::format("cache.attn_intermediates.{}", next)))
    take_attention(arguments, fmt::format("cache.attn_intermediates.{}", next++));
  if (next > attentions)
    warn_unused(at(OptionPath("cache") / "attn_intermediates"),
                "of {} those after the first {} change nothing, there are no more attentions", next,
                attentions);
  cached.length = arguments.tensor("cache.cache_length");
  for (const auto* name : kOfLayers) arguments.tensor(std::string("cache.") + name);
  for (const auto* name : kListsOfLayers) arguments.tensors(std::string("cache.") + name);
  return cached;
}

/// As in Python, an attention may come without a cache.
void check_shapes(const CachedStack& cached, const std::vector<const Block*>& attentions,
                  const LayersCache& cache, int64_t batch) {
  for (size_t i = 0; i < attentions.size(); ++i) {
    if (!cached.attentions[i].keys.defined()) continue;
    // A context may have one batch entry for all.
    const Dimension entries = {"batch", batch, cache.key_values()[i]->is_context};
    attentions[i]->check_given(cached.attentions[i], entries,
                               fmt::format("cache.attn_intermediates.{}", i));
  }
}

/// Tokens that all self-attentions have cached; without any, what the cache says of itself.
int64_t cached_length(const CachedStack& cached, const LayersCache& cache) {
  std::optional<int64_t> length;
  for (size_t i = 0; i < cached.attentions.size(); ++i) {
    const auto& keys = cached.attentions[i].keys;
    if (!keys.defined() || cache.key_values()[i]->is_context) continue;
    const auto tokens = keys.size(-2);
    require(length.value_or(tokens) == tokens, at("cache"),
            "attention {} has {} tokens, one before it has {}", i, tokens, length.value_or(0));
    length = tokens;
  }
  if (!cached.length.defined()) return length.value_or(0);
  require(cached.length.numel() == 1, at(OptionPath("cache") / "cache_length"),
          "expected one number");
  auto said = cached.length.item<int64_t>();
  expect(length.value_or(said) == said, at(OptionPath("cache") / "cache_length"), said,
         "the tokens that the attentions have, {}", length.value_or(0));
  return said;
}

/// How many of the last tokens of x are new: Python's cache_age, which 0 turns off. A cache fits
/// where x is those alone, or they and all that is cached.
int64_t count_new(int64_t age, bool leaves_out_cached, int64_t tokens, int64_t cached,
                  int64_t prefix) {
  expect(age >= 0, at("cache_age"), age, "0 or more");
  const auto count = age > 0 ? std::min(age, tokens) : tokens;
  const bool has_all = !leaves_out_cached && prefix + tokens == cached + count;
  require(count == tokens || has_all, at("cache"),
          "holds {} tokens, which does not fit an {} of {}, the last {} ({}) of which are new: "
          "expected {}",
          cached - prefix, option("x"), tokens, count, option("cache_age"),
          leaves_out_cached ? text("new ones alone, as {} says", option("input_not_include_cache"))
                            : text("{} or {}", count, cached - prefix + count));
  return count;
}

}  // namespace

std::optional<LayersCache> take_cache(Arguments& arguments, const AttentionLayersImpl& layers,
                                      at::Tensor& x, const CacheUse& use) {
  const auto given_offset = arguments.integer("seq_pos_offset");
  const bool leaves_out_cached = arguments.flag("input_not_include_cache", use.leaves_out_cached);
  const auto age = arguments.integer("cache_age").value_or(1);
  require(!arguments.json("cache"), at("cache"), kCacheIsTensors, option(kFirstOfCache));
  if (!arguments.has("cache")) return std::nullopt;
  require(x.defined() && x.dim() >= 2, at("cache"), "needs x [batch, seq, ...]");

  const auto& order = use.inputs.layers_execute_order;
  auto cache = layers.make_cache(0, order);
  const auto attentions = layers.attentions(order);
  const auto cached = take_stack(arguments, attentions.size());
  check_shapes(cached, attentions, cache, x.size(0));
  const auto before = x.size(1), length = cached_length(cached, cache);
  const auto added = count_new(age, leaves_out_cached, before, length, use.prefix),
             count = length + added;
  x = x.narrow(1, before - added, added);
  if (length > 0) {
    auto reason = layers.given_cache_unsupported(cached.attentions, order);
    if (use.taker == CacheTaker::wrapper) reason = respelled(reason, below("attn_layers"));
    require(reason.empty(), at("cache"), "{}", reason);
  }

  // One call is made with it, so the center can be Python's: scores may see it (l2_distance).
  CachedPlaces places;
  places.new_tokens = added;
  places.rotary = use.inputs.rotary_pos_emb;
  if (use.inputs.polar_pos_emb.defined()) places.polar = use.inputs.polar_pos_emb.of_keys();
  const auto offset = use.taker == CacheTaker::stack ? given_offset.value_or(length)
                                                     : (leaves_out_cached ? length : 0);
  const auto counted = std::max(before + offset, count);
  const auto& start = use.seq_start_pos;
  places.seq_start_pos = start;
  const auto& pos = use.pos;
  if (pos.defined() && !pos.is_floating_point() && pos.dim() > 0 && pos.size(-1) >= count) {
    places.pos = pos.narrow(-1, pos.size(-1) - count, length);
    cache.rotary = RotaryState::amid(pos);
  } else {
    cache.rotary = RotaryState::amid(counted, counted - count, start);
  }
  cache.length = length;
  places.rotary_state = cache.rotary;
  for (size_t i = 0; i < cached.attentions.size(); ++i) {
    auto given = cached.attentions[i];
    if (!given.keys.defined()) continue;
    auto& state = *cache.key_values()[i];
    state.as_given = given;
    if (state.is_context) {
      given.keys = layers.place_cached_context(given.keys, use.inputs.context_pos);
    } else {
      std::tie(given.keys, given.values) = layers.place_cached(given.keys, given.values, places);
    }
    state.append_given(given);
  }
  return cache;
}

std::vector<at::Tensor> take_cached_kv(Arguments& arguments, const AttentionImpl& attention,
                                       int64_t batch) {
  require(!arguments.json("cache"), at("cache"), kCacheIsTensors, option(kFirstOfCache));
  auto given = arguments.tensors("cache.cached_kv");
  for (const auto* part : kOfAttention) arguments.tensor(std::string("cache.") + part);
  if (given.empty()) return given;
  require(given.size() <= 2, at(OptionPath("cache") / "cached_kv"),
          "expected keys and values, got {} tensors", given.size());
  const GivenState state = {given[0], given.size() > 1 ? given[1] : at::Tensor(),
                            arguments.tensor("cache.hybrid_hidden")};
  attention.check_given(state, {"batch", batch}, "cache");
  const auto reason = attention.given_cache_unsupported(state);
  require(given[0].size(-2) == 0 || reason.empty(), at("cache"), "{}", reason);
  return given;
}

void NewTokens::cut(at::Tensor& t, int64_t dim, const char* name) const {
  if (!t.defined() || t.dim() < -dim) return;
  const auto given = t.size(dim);
  require(given == 1 || given == count || given == all || given == all - prefix ||
              given == all - prefix + prepended,
          at(name), "has entries for {} tokens, but x and the cache have {}, of which {} are new",
          given, all - prefix, count);
  if (given > count) t = t.narrow(dim, given - count, count);
}

}  // namespace x_transformers
