#include "x_transformers/interchange/given_cache.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"

namespace x_transformers {
namespace {

using NamedTensors = std::map<std::string, at::Tensor>;

/// What Python keeps of one attention: keys and values, or latents and the key heads beside them.
struct CachedPair {
  at::Tensor keys, values;
};

void check_shapes(const CachedPair& cached, const AttentionOptions& o, const Dimension& batch,
                  const std::string& name) {
  const auto first = name + ".0", second = name + ".1";
  if (o.use_latent_kv) {
    require_tensor(cached.keys, first.c_str(), TensorKind::floating,
                   {batch, {"tokens"}, {"dim_latent_kv", *o.dim_latent_kv}});
    require(cached.values.defined() || !o.latent_rope_subheads,
            second + ": is needed beside the latents, for latent_rope_subheads");
    require_tensor(cached.values, second.c_str(), TensorKind::floating,
                   {batch,
                    {"latent_rope_subheads", o.latent_rope_subheads.value_or(0)},
                    {"tokens", cached.keys.size(1)},
                    {"dim_head", o.dim_head}});
    return;
  }
  const auto kv_heads = key_value_heads(o);
  require_tensor(cached.keys, first.c_str(), TensorKind::floating,
                 {batch, {"kv_heads", kv_heads}, {"tokens"}, {"dim_head", o.dim_head}});
  require(cached.values.defined(), second + ": is needed beside the keys");
  // Mixed or normed values have a head for each query head.
  const bool has_all_heads = cached.values.dim() == 4 && cached.values.size(1) == o.heads;
  require_tensor(cached.values, second.c_str(), TensorKind::floating,
                 {batch,
                  {"kv_heads", has_all_heads ? o.heads : kv_heads},
                  {"tokens", cached.keys.size(2)},
                  {"value_dim_head", o.value_dim_head.value_or(o.dim_head)}});
}

/// One for each attention in the order of execution; as in Python, one may come without a cache.
std::vector<CachedPair> cached_pairs(const NamedTensors& given,
                                     const std::vector<AttentionImpl*>& attentions,
                                     const LayersCache& cache, int64_t batch) {
  std::vector<CachedPair> pairs;
  for (size_t i = 0; i < attentions.size(); ++i) {
    const auto name = fmt::format("attn_intermediates.{}.cached_kv", i);
    const auto k = given.find(name + ".0"), v = given.find(name + ".1");
    auto& pair = pairs.emplace_back();
    if (k == given.end()) continue;
    pair = {k->second, v == given.end() ? at::Tensor() : v->second};
    // A context may have one row for all.
    const Dimension rows = {"batch", batch, cache.key_values()[i]->is_context};
    check_shapes(pair, attentions[i]->options(), rows, "cache." + name);
  }
  return pairs;
}

/// Tokens that all self-attentions have cached; without any, what the cache says of itself.
int64_t cached_length(const NamedTensors& given, const std::vector<CachedPair>& pairs,
                      const LayersCache& cache) {
  std::optional<int64_t> length;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (!pairs[i].keys.defined() || cache.key_values()[i]->is_context) continue;
    const auto tokens = pairs[i].keys.size(-2);
    require(length.value_or(tokens) == tokens,
            fmt::format("cache: attention {} has {} tokens, one before it has {}", i, tokens,
                        length.value_or(0)));
    length = tokens;
  }
  if (length) return *length;
  const auto said = given.find("cache_length");
  if (said == given.end()) return 0;
  require(said->second.numel() == 1, "cache.cache_length: expected one number");
  return said->second.item<int64_t>();
}

constexpr const char* kCacheIsTensors =
    "is given as tensors among the inputs, named as cache.attn_intermediates.0.cached_kv.0";

/// How many of the last tokens of x are new: Python's cache_age, which 0 turns off. A cache fits
/// where x is those alone, or they and all that is cached.
int64_t count_new(int64_t age, bool leaves_out_cached, int64_t tokens, int64_t cached,
                  int64_t prefix) {
  require(age >= 0, fmt::format("cache_age: expected 0 or more, got {}", age));
  const auto count = age > 0 ? std::min(age, tokens) : tokens;
  const bool has_all = !leaves_out_cached && prefix + tokens == cached + count;
  require(count == tokens || has_all,
          fmt::format("cache: holds {} tokens, which does not fit an x of {}, the last {} "
                      "(cache_age) of which are new: expected {}",
                      cached - prefix, tokens, count,
                      leaves_out_cached ? "new ones alone, as input_not_include_cache says"
                                        : fmt::format("{} or {}", count, cached - prefix + count)));
  return count;
}

}  // namespace

std::optional<LayersCache> take_cache(Arguments& arguments, const AttentionLayersImpl& layers,
                                      at::Tensor& x, const CacheUse& use) {
  const auto given = arguments.tensors_by_key("cache");
  const auto given_offset = arguments.integer("seq_pos_offset");
  const bool leaves_out_cached = arguments.flag("input_not_include_cache");
  const auto age = arguments.integer("cache_age").value_or(1);
  if (given.empty()) {
    arguments.absent("cache", kCacheIsTensors);
    return std::nullopt;
  }
  require(x.defined() && x.dim() >= 2, "cache: needs x [batch, seq, ...]");

  const auto order = arguments.integers("layers_execute_order");
  auto cache = layers.make_cache(0, order);
  const auto pairs = cached_pairs(given, layers.attentions(order), cache, x.size(0));
  const auto before = x.size(1), length = cached_length(given, pairs, cache);
  const auto added = count_new(age, leaves_out_cached, before, length, use.prefix),
             count = length + added;
  x = x.narrow(1, before - added, added);

  // One call is made with it, so the center can be Python's: scores may see it (l2_distance).
  at::Tensor cached_pos;
  const auto offset = use.taker == CacheTaker::stack ? given_offset.value_or(length)
                                                     : (leaves_out_cached ? length : 0);
  const auto counted = std::max(before + offset, count);
  cache.xpos_center = static_cast<double>(counted / 2 - (counted - count));
  const auto pos = arguments.tensor("pos");
  if (pos.defined() && !pos.is_floating_point() && pos.dim() > 0 && pos.size(-1) >= count) {
    cached_pos = pos.narrow(-1, pos.size(-1) - count, length);
    cache.xpos_center = std::floor((pos.max().item<double>() + 1) / 2);
  }
  cache.length = length;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto& [keys, values] = pairs[i];
    if (!keys.defined()) continue;
    auto& attention = *cache.key_values()[i];
    if (attention.is_context) {
      attention.append(keys, values);
      continue;
    }
    const auto [placed_k, placed_v] =
        layers.place_cached(keys, values, cached_pos, cache.xpos_center);
    attention.append(placed_k, placed_v);
  }
  return cache;
}

std::vector<at::Tensor> take_cached_kv(Arguments& arguments, const AttentionOptions& options,
                                       int64_t batch) {
  const auto given = arguments.tensors("cache.cached_kv");
  if (given.empty()) {
    // A hidden state alone is a cache too.
    if (!arguments.has("cache.hybrid_hidden")) arguments.absent("cache", kCacheIsTensors);
    return given;
  }
  check_shapes({given[0], given.size() > 1 ? given[1] : at::Tensor()}, options, {"batch", batch},
               "cache.cached_kv");
  return given;
}

void NewTokens::cut(at::Tensor& t, int64_t dim, const char* name) const {
  if (!t.defined() || t.dim() < -dim) return;
  const auto given = t.size(dim);
  require(given == 1 || given == count || given == all || given == all - prefix,
          fmt::format("{}: has entries for {} tokens, but x and the cache have {}, of which {} are "
                      "new",
                      name, given, all - prefix, count));
  if (given > count) t = t.narrow(dim, given - count, count);
}

void NewTokens::keep(AttentionLayersInputs& inputs) const {
  const auto cut_rows = [&](at::Tensor& t, const char* name) {
    if (t.defined() && t.dim() == 3) cut(t, -2, name);
  };
  cut_rows(inputs.condition, "condition");
  cut_rows(inputs.in_attn_cond, "in_attn_cond");
  for (auto& residual : inputs.self_attn_kv_residuals) cut(residual, -2, "self_attn_kv_residuals");
}

}  // namespace x_transformers
