#include "x_transformers/interchange/take_inputs.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/interchange/cached_call.h"
#include "x_transformers/interchange/given_cache.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {

at::Tensor whole_ids(const at::Tensor& ids, const std::string& name) {
  if (!ids.defined() || !ids.is_floating_point()) return ids;
  // Beyond this the numbers of a double are all whole, and no ids.
  constexpr double kMax = 9007199254740992;
  const auto wide = ids.cpu().to(at::kDouble);
  const auto wrong = ((wide.floor() != wide) | (wide.abs() >= kMax)).nonzero();
  if (wrong.size(0) == 0) return ids.to(at::kLong);
  auto id = wide;
  std::vector<int64_t> place;
  for (int64_t dim = 0; dim < wrong.size(1); ++dim) {
    place.push_back(wrong[0][dim].item<int64_t>());
    id = id.select(0, place.back());
  }
  throw InputError(
      Notice{at(name), text("expected ids, whole numbers, got {} at position [{}]",
                            id.item<double>(), fmt::format("{}", fmt::join(place, ", ")))});
}

RotaryAngles take_rotary(Arguments& arguments, const std::string& name) {
  const auto given = arguments.tensors(name);
  if (given.empty()) return {};
  require(given.size() <= 2, at(name), "expected angles and a scale, got {} tensors", given.size());
  const auto batched = [](const at::Tensor& t) {
    if (t.dim() == 2) return t.unsqueeze(0);
    return t.dim() == 4 && t.size(1) == 1 ? t.squeeze(1) : t;
  };
  RotaryAngles angles;
  angles.freqs = batched(given[0]);
  if (given.size() == 1) return angles;
  const auto scale = batched(given[1]);
  expect(at::is_expandable_to(scale.sizes(), angles.freqs.sizes()), at(name), shown(scale.sizes()),
         "a scale of {}", shown(angles.freqs.sizes()));
  angles.scale = scale.expand_as(angles.freqs);
  return angles;
}

std::vector<at::Tensor> take_stacked(Arguments& arguments, const std::string& name) {
  const auto given = arguments.tensor(name);
  if (!given.defined()) return {};
  if (given.dim() == 3) return {given};
  return given.unbind(0);
}

PolarAngles take_polar(Arguments& arguments, const std::string& name) {
  auto [angles, key_bias] = arguments.tensor_pair(name);
  if (angles.defined() && angles.dim() == 3) angles = angles.unsqueeze(1);
  return {angles, key_bias};
}

at::Tensor take_looked_up(Arguments& arguments, const std::string& name) {
  const auto [table, ids] = arguments.tensor_pair(name);
  if (!table.defined()) return {};
  require_tensor(ids, name.c_str(), TensorKind::integer, {{"batch"}, {"seq"}});
  if (arguments.source() == ArgumentSource::outside)
    require_in_range(ids, name, {table.size(0), "the number of rows of its table"});
  return table.index({ids});
}

AttentionCall::AttentionCall(Arguments& arguments, const AttentionImpl& attention) {
  inputs.x = arguments.required_tensor("x");
  take_inputs(arguments, inputs);
  rel_pos_ = arguments.model("rel_pos");
  if (rel_pos_) {
    inputs.rel_pos = dynamic_cast<PositionBias*>(&rel_pos_->module());
    require(inputs.rel_pos != nullptr, at(OptionPath("kwargs") / "rel_pos"), "expected one of {}",
            types_with(&ModelType::is_position_bias));
  }
  rotary_.angles = inputs.rotary_pos_emb;
  rotary_.context_angles = inputs.context_rotary_pos_emb;
  if (rotary_.angles.defined()) inputs.rotary = &rotary_;
  if (const auto& polar = inputs.polar_pos_emb; polar.defined()) {
    const auto& o = attention.options();
    require_broadcast(polar.key_bias, "polar_pos_emb", TensorKind::floating,
                      {{"heads", o.heads}, {"one", 1}, {"dim_head", o.dim_head}});
    polar_ = {polar.angles, polar.of_keys()};
    inputs.polar = &polar_;
  }
  if (inputs.flash_pack_seq_kwargs) inputs.packed = &*inputs.flash_pack_seq_kwargs;
  require(inputs.x.dim() >= 3, at("x"), "expected [batch, seq, dim]");
  cached = take_cached_kv(arguments, attention, inputs.x.size(-3));
  if (cached.empty()) return;
  auto keys = cached[0];
  if (inputs.rotary && !attention.options().use_latent_kv)
    keys = attention.rotate_keys(keys, rotary_.angles, inputs.x.size(-2));
  cache_.append(keys, cached.size() > 1 ? cached[1] : at::Tensor());
  inputs.cache = &cache_;
}

StackCall::StackCall(Arguments& arguments, const AttentionLayersImpl& layers) {
  inputs.x = arguments.required_tensor("x");
  take_inputs(arguments, inputs);
  cache_ = take_cache(arguments, layers, inputs.x,
                      {CacheTaker::stack, inputs, inputs.pos, inputs.seq_start_pos});
  if (!cache_) return;
  NewTokens{inputs.x.size(1), cache_->length + inputs.x.size(1), 0}.cut(inputs);
  inputs.cache = &*cache_;
}

at::Tensor as_tokens(const at::Tensor& given, const std::string& name, const Arguments& arguments,
                     const TokenModel& net) {
  const bool are_ids = arguments.source() == ArgumentSource::outside && net.traits().embeds_ids;
  return are_ids ? whole_ids(given, name) : given;
}

namespace {

at::Tensor checked_ids(const at::Tensor& given, const std::string& name, const Arguments& arguments,
                       const IdRange& range) {
  if (arguments.source() != ArgumentSource::outside) return given;
  auto ids = whole_ids(given, name);
  require_in_range(ids, name, range);
  return ids;
}

/// Whether all that is embedded is given for each token of x, and not for the new ones alone.
bool is_for_all_tokens(const TransformerInputs& inputs) {
  bool is_for_all = true;
  each_input(inputs, [&](const char*, const at::Tensor& t, const InputField& field) {
    const bool is_embedded =
        field.beside_cache == BesideCache::cut || field.beside_cache == BesideCache::whole;
    const auto dim = find_axis(t, field, Axis::tokens);
    if (!is_embedded || dim == 0 || t.size(dim) == 1) return;
    is_for_all = is_for_all && t.size(dim) == inputs.x.size(1);
  });
  return is_for_all;
}

}  // namespace

at::Tensor take_ids(Arguments& arguments, const std::string& name, const IdRange& range) {
  return checked_ids(arguments.tensor(name), name, arguments, range);
}

at::Tensor required_ids(Arguments& arguments, const std::string& name, const IdRange& range) {
  return checked_ids(arguments.required_tensor(name), name, arguments, range);
}

TransformerCall::TransformerCall(Arguments& arguments, TransformerWrapperImpl& net) {
  const auto given = as_tokens(arguments.tensor("x"), "x", arguments, net);
  auto x = given;  // the new tokens
  inputs = take_transformer_inputs(arguments);
  const auto prefix = net.entries_before_tokens(inputs);
  auto given_cache =
      take_cache(arguments, *net.attn_layers(), x,
                 {CacheTaker::wrapper, inputs.layers, inputs.pos, inputs.seq_start_pos, prefix,
                  net.options().input_not_include_cache});
  inputs.x = given;
  if (arguments.source() == ArgumentSource::outside) {
    require_in_range(given, "x", token_range(net));
    require_in_range(inputs, net);
  }
  if (!given_cache) return;
  if (given.size(1) > x.size(1) && is_for_all_tokens(inputs)) whole = inputs;
  inputs.x = x;
  use_cache(cache_, std::move(*given_cache), prefix, x, inputs);
}

TransformerInputs take_transformer_inputs(Arguments& arguments) {
  TransformerInputs inputs;
  take_inputs(arguments, inputs);
  return inputs;
}

}  // namespace x_transformers
