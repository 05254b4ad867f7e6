// Building a stack: names and order of construction are Python's.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_layers_state.h"
#include "x_transformers/nn/attend_user.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/blocks.h"
#include "x_transformers/nn/feed_forward.h"
#include "x_transformers/nn/input_dtype.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

AttentionLayersImpl::AttentionLayersImpl(AttentionLayersOptions options)
    : options_(resolve(std::move(options))) {
  validate(options_);
  if (options_.dynamic_pos_bias && options_.attn.data_dependent_alibi)
    warn_unused(at("dynamic_pos_bias"), "changes nothing, {} stands in its place",
                option("attn_data_dependent_alibi"));
  plan_ = plan_layers(options_);
  check_layers({});  // that they can run in the order of the options
  const auto warn_of_rest = [&](const char* name, size_t values) {
    const auto layers = plan_.layers.size();
    if (values > std::max<size_t>(layers, 1))
      warn_unused(at(name),
                  "of its {} values those after the first {} change nothing, as there are no more "
                  "layers",
                  values, layers);
  };
  warn_of_rest("shift_tokens", options_.shift_tokens.values.size());
  warn_of_rest("layer_dropout", options_.layer_dropout.values.size());
  build_positions();
  build_condition();
  build_layers();
  first_weight_ = first_weight(*this);
}

NormChoice AttentionLayersImpl::norm_choice() const {
  using Kind = NormChoice::Kind;
  const auto& o = options_;
  NormChoice choice;
  choice.unit_offset = o.norm_add_unit_offset;
  choice.dynamic_tanh_init_alpha = o.dynamic_tanh_init_alpha;
  choice.dim_condition = condition_features();
  if (o.use_scalenorm) choice.kind = Kind::scale_norm;
  if (o.use_rmsnorm) choice.kind = Kind::rms_norm;
  if (o.use_simple_rmsnorm) choice.kind = Kind::simple_rms_norm;
  if (o.use_dynamic_tanh) choice.kind = Kind::dynamic_tanh;
  if (o.use_derf) choice.kind = Kind::derf;
  if (o.use_adaptive_layernorm) choice.kind = Kind::adaptive_layer_norm;
  if (o.use_adaptive_rmsnorm) choice.kind = Kind::adaptive_rms_norm;
  return choice;
}

int64_t AttentionLayersImpl::condition_features() const {
  const auto dim = options_.dim_condition.value_or(options_.dim);
  return options_.adaptive_condition_mlp ? dim * options_.adaptive_condition_mlp_expansion : dim;
}

bool AttentionLayersImpl::disable_abs_pos_emb() const {
  return options_.disable_abs_pos_emb.value_or(options_.rel_pos_bias || options_.rotary_pos_emb ||
                                               options_.polar_pos_emb);
}

void AttentionLayersImpl::build_positions() {
  const auto& o = options_;
  if (o.num_residual_streams > 1) {
    stream_emb_ = register_parameter("stream_emb", at::zeros({o.num_residual_streams, o.dim}));
  }
  const auto rotary_dim = o.rotary_emb_dim.value_or(o.attn.dim_head / 2);
  if (o.rotary_pos_emb && rotary_dim == 0) {
    // It rotates nothing, and is there in name.
    auto scope = register_module("rotary_pos_emb", make_scope());
    scope->register_buffer("inv_freq", at::empty({0}));
    if (o.rotary_xpos) scope->register_buffer("scale", at::empty({0}));
  } else if (o.rotary_pos_emb) {
    rotary_pos_emb_ = register_module("rotary_pos_emb",
                                      std::make_shared<RotaryEmbedding>(RotaryEmbeddingOptions{
                                          .dim = rotary_dim,
                                          .use_xpos = o.rotary_xpos,
                                          .scale_base = o.rotary_xpos_scale_base,
                                          .interpolation_factor = o.rotary_interpolation_factor,
                                          .base_rescale_factor = o.rotary_base_rescale_factor}));
  }
  if (o.polar_pos_emb) {
    polar_pos_emb_ =
        register_module("polar_pos_emb", std::make_shared<PolarEmbedding>(PolarEmbeddingOptions{
                                             o.attn.dim_head, o.heads, o.polar_bias_uniform_init}));
  }
  if (o.rel_pos_bias) {
    rel_pos_ = std::make_shared<RelativePositionBias>(
        RelativePositionBiasOptions{.scale = std::sqrt(static_cast<double>(o.attn.dim_head)),
                                    .causal = o.causal,
                                    .num_buckets = o.rel_pos_num_buckets,
                                    .max_distance = o.rel_pos_max_distance,
                                    .heads = o.heads});
  } else if (o.dynamic_pos_bias) {
    rel_pos_ = std::make_shared<DynamicPositionBias>(
        DynamicPositionBiasOptions{.dim = o.dim / 4,
                                   .heads = o.heads,
                                   .depth = o.dynamic_pos_bias_mlp_depth,
                                   .log_distance = o.dynamic_pos_bias_log_distance,
                                   .norm = o.dynamic_pos_bias_norm});
  } else if (o.alibi_pos_bias) {
    rel_pos_ = std::make_shared<AlibiPositionalBias>(AlibiPositionalBiasOptions{
        o.alibi_num_heads.value_or(o.heads), o.heads, o.rel_pos_kwargs.slopes});
  }
  if (rel_pos_) register_module("rel_pos", rel_pos_);
}

void AttentionLayersImpl::build_condition() {
  const auto& o = options_;
  if (o.needs_condition() && o.adaptive_condition_mlp) {
    auto scope = register_module("adaptive_mlp", make_scope());
    condition_mlp_ = scope->register_module(
        "0", linear_no_bias(o.dim_condition.value_or(o.dim), condition_features()));
  }
  if (o.resi_dual || (o.pre_norm && o.pre_norm_has_final_norm)) {
    final_norm_ = register_module("final_norm", make_norm(o.dim, norm_choice()));
  }
  if (o.reinject_input)
    reinject_input_proj_ = register_module("reinject_input_proj", linear_no_bias(o.dim, o.dim));
  if (o.learned_reinject_input_gate) {
    reinject_input_gate_ = register_module("learned_reinject_input_gate", linear_no_bias(o.dim, 1));
  }
}

namespace {

/// The block of a layer, with nothing around it yet.
std::shared_ptr<Block> build_innermost(const LayerStep& step, const AttentionLayersOptions& o) {
  switch (step.type) {
    case LayerType::attention: {
      auto attention = o.attn;
      attention.qkv_receive_diff_residuals = step.takes_views;
      attention.learned_value_residual_mix = step.learned_value_residual_mix;
      return std::make_shared<AttentionImpl>(attention);
    }
    case LayerType::cross_attention:
      return std::make_shared<AttentionImpl>(*o.cross_attn);
    case LayerType::feed_forward:
      return std::make_shared<FeedForwardImpl>(o.ff);
  }
  throw std::logic_error("a layer of no type");
}

}  // namespace

std::shared_ptr<Block> AttentionLayersImpl::build_block(const LayerStep& step) const {
  const auto& o = options_;
  auto block = build_innermost(step, o);
  if (step.is_half_step) block = std::make_shared<Scale>(ScaleOptions{.value = 0.5}, block);
  if (step.shift_tokens > 0) {
    ShiftTokensOptions options;
    for (int64_t s = o.causal ? 0 : -step.shift_tokens; s <= step.shift_tokens; ++s)
      options.shifts.push_back(s);
    block = std::make_shared<ShiftTokens>(options, block);
  }
  if (o.use_layerscale) {
    block = std::make_shared<LayerScale>(LayerScaleOptions{.dim = o.dim,
                                                           .init_value = o.layerscale_init_value,
                                                           .unit_offset = o.norm_add_unit_offset},
                                         block);
  } else if (o.use_adaptive_layerscale) {
    block = std::make_shared<AdaptiveLayerScale>(
        AdaptiveLayerScaleOptions{.dim = o.dim, .dim_condition = condition_features()}, block);
  }
  return block;
}

std::shared_ptr<ResidualBase> AttentionLayersImpl::build_residual(const LayerStep& step,
                                                                  int64_t index) const {
  const auto& o = options_;
  if (o.num_residual_streams > 1) {
    return std::make_shared<HyperConnection>(
        HyperConnectionOptions{.dim = o.dim,
                               .layer_index = index,
                               .num_residual_streams = o.num_residual_streams,
                               .num_input_views = step.hyper_connection_views});
  }
  if (o.gate_residual)
    return std::make_shared<GRUGating>(GRUGatingOptions{o.dim, o.scale_residual});
  return std::make_shared<Residual>(
      ResidualOptions{o.dim, o.scale_residual, o.scale_residual_constant});
}

void AttentionLayersImpl::build_layers() {
  const auto& o = options_;
  auto layers_scope = register_module("layers", std::make_shared<LayerList>());
  auto skips_scope = register_module("skip_combines", make_scope());
  auto integrators_scope = register_module("layer_integrators", make_scope());
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    const auto name = std::to_string(i);
    Layer layer;
    layer.step = plan_.layers[i];
    auto scope = layers_scope->register_module(name, make_scope());
    auto norms = scope->register_module("0", make_scope());
    const auto add_norm = [&](const char* place) {
      return norms->register_module(place, make_norm(o.dim, norm_choice()));
    };
    const bool is_post_norm = o.resi_dual || !o.pre_norm;
    if (!is_post_norm) layer.pre_norm = add_norm("0");
    if (o.sandwich_norm) layer.post_branch_norm = add_norm("1");
    if (is_post_norm) layer.post_main_norm = add_norm("2");
    layer.block = scope->register_module(
        "1", spelled(block_spelling(o, layer.step.type), [&] { return build_block(layer.step); }));
    layer.residual =
        scope->register_module("2", build_residual(layer.step, static_cast<int64_t>(i)));
    if (layer.step.skip_from) {
      layer.skip_combine = skips_scope->register_module(
          name, std::make_shared<ConcatCombine>(
                    ConcatCombineOptions{.dim = o.dim, .prev_layer_ind = *layer.step.skip_from}));
    }
    if (o.integrate_layers) {
      DynamicLIMeOptions lime;
      lime.dim = o.dim;
      lime.num_layers = static_cast<int64_t>(i) + 1;
      lime.num_views = layer.step.takes_views ? 3 : 1;
      lime.use_softmax = o.layer_integrate_use_softmax;
      layer.integrator =
          integrators_scope->register_module(name, std::make_shared<DynamicLIMe>(lime));
    }
    layers_.push_back(layer);
  }
}

std::vector<const Block*> AttentionLayersImpl::attentions(
    const std::optional<std::vector<int64_t>>& layers_execute_order) const {
  std::vector<const Block*> found;
  for (const auto index : plan_.order_of(layers_execute_order)) {
    const auto& layer = layers_[static_cast<size_t>(index)];
    if (is_attention(layer.step.type)) found.push_back(layer.block.get());
  }
  return found;
}

Text AttentionLayersImpl::sight_of(const AttendUser& attention) const {
  if (options_.kind != LayersKind::prefix_decoder) return {};
  const bool is_of_self = std::any_of(layers_.begin(), layers_.end(), [&](const Layer& layer) {
    return layer.step.type == LayerType::attention &&
           dynamic_cast<const AttendUser*>(&layer.block->innermost()) == &attention;
  });
  if (!is_of_self) return {};
  return text("causal, but for a prefix that all see ({})", option("prefix_attn_len"));
}

Text AttentionLayersImpl::cache_unsupported() const {
  if (!options_.causal) return "the stack is not causal";
  if (options_.rotary_xpos && options_.attn.l2_distance) {
    return text("{} scales keys by the length of the sequence, which {} sees",
                option("rotary_xpos"), option("attn_l2_distance"));
  }
  if (options_.rotary_xpos && options_.attn.use_cope) {
    return text("{} scales queries by the length of the sequence, which {} sees",
                option("rotary_xpos"), option("attn_use_cope"));
  }
  if (options_.rotary_xpos && options_.attn.num_mem_kv > 0) {
    return text("{} places the keys of {} in the middle of the sequence, which moves as it grows",
                option("rotary_xpos"), option("attn_num_mem_kv"));
  }
  for (const auto& layer : layers_) {
    const bool has_context = layer.step.type == LayerType::cross_attention;
    const auto reason =
        has_context ? layer.block->context_cache_unsupported() : layer.block->cache_unsupported();
    if (!reason.empty()) return respelled(reason, block_spelling(options_, layer.step.type));
  }
  return {};
}

/// The first reason that one of the innermost blocks gives; empty: none does.
Text AttentionLayersImpl::first_reason(Text (Block::*ask)() const) const {
  for (const auto& layer : layers_) {
    const auto reason = (layer.block->innermost().*ask)();
    if (!reason.empty()) return respelled(reason, block_spelling(options_, layer.step.type));
  }
  return {};
}

Text AttentionLayersImpl::mems_unsupported() const {
  if (options_.num_residual_streams == 1) return {};
  return text("with {} each layer is given several streams, and memories are of one",
              option("num_residual_streams"));
}

Text AttentionLayersImpl::static_cache_unsupported() const {
  return first_reason(&Block::static_cache_unsupported);
}

Text AttentionLayersImpl::padding_unsupported() const {
  return first_reason(&Block::padding_unsupported);
}

Text AttentionLayersImpl::documents_unsupported() const {
  const auto& o = options_;
  if (o.cross_attend)
    return text("{} has one context for all documents of a row", option("cross_attend"));
  if (o.kind == LayersKind::prefix_decoder) return "a PrefixDecoder has one prefix in a row";
  if (o.residual_attn)
    return text("{} hands on the scores of whole sequences", option("residual_attn"));
  return first_reason(&Block::documents_unsupported);
}

Text AttentionLayersImpl::given_cache_unsupported(
    const std::vector<GivenState>& given,
    const std::optional<std::vector<int64_t>>& layers_execute_order) const {
  size_t attentions = 0;
  for (const auto index : plan_.order_of(layers_execute_order)) {
    const auto& layer = layers_[static_cast<size_t>(index)];
    const auto reason = layer.block->given_cache_unsupported(
        is_attention(layer.step.type) ? given.at(attentions++) : GivenState{});
    if (!reason.empty()) return respelled(reason, block_spelling(options_, layer.step.type));
  }
  return {};
}

Text AttentionLayersImpl::capture_unsupported() const {
  for (const auto& layer : layers_) {
    if (layer.step.dropout > 0)
      return text("{}: the host draws which layers are left out", option("layer_dropout"));
  }
  return recomputed_blocks_ > 0 ? recomputed_capture_unsupported(drawn_option()) : Text();
}

/// That of the first layer which has one.
OptionPath AttentionLayersImpl::drawn_option() const {
  for (const auto& layer : layers_) {
    const auto drawn = layer.block->innermost().drawn_option();
    if (!drawn.empty()) return respelled(drawn, block_spelling(options_, layer.step.type));
  }
  return {};
}

Spelling AttentionLayersImpl::part_spelling(const torch::nn::Module& part) const {
  for (const auto& layer : layers_) {
    if (&part == layer.block.get() || &part == &layer.block->innermost())
      return block_spelling(options_, layer.step.type);
  }
  return {};
}

LayersCache AttentionLayersImpl::make_cache(
    int64_t capacity, const std::optional<std::vector<int64_t>>& layers_execute_order) const {
  LayersCache cache;
  for (const auto index : plan_.order_of(layers_execute_order)) {
    const auto& layer = layers_[static_cast<size_t>(index)];
    const bool has_context = layer.step.type == LayerType::cross_attention;
    cache.layers.push_back(layer.block->make_state({capacity, has_context}));
  }
  return cache;
}

}  // namespace x_transformers
