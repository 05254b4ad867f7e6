// Running a stack: layer after layer over a small state.
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/core/cloned.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/probe.h"
#include "x_transformers/layers/attention_layers_state.h"
#include "x_transformers/layers/dropout_seq.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/ops/linear_cuda.h"
#include "x_transformers/ops/linear_ends.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {

namespace {

template <class T>
T item_or_empty(const std::vector<T>& items, size_t index) {
  return index < items.size() ? items[index] : T();
}

const char* shown_name(LayerType type) {
  switch (type) {
    case LayerType::attention:
      return probed::kSelfAttention;
    case LayerType::cross_attention:
      return probed::kCrossAttention;
    case LayerType::feed_forward:
      return probed::kFeedForward;
  }
  return "";
}

}  // namespace

/// What is added before every layer: the input projected, or a condition.
void AttentionLayersImpl::inject_input(const AttentionLayersInputs& inputs, State& state) {
  if (reinject_input_proj_) {
    state.inject = reinject_input_proj_->forward(inputs.x);
  } else if (inputs.in_attn_cond.defined()) {
    state.inject =
        inputs.in_attn_cond.dim() == 3 ? inputs.in_attn_cond : inputs.in_attn_cond.unsqueeze(1);
  }
  if (state.inject.defined() && reinject_input_gate_) {
    state.inject = state.inject * reinject_input_gate_->forward(inputs.x).sigmoid();
  }
}

void AttentionLayersImpl::route_additional_kv(const AttentionLayersInputs& inputs,
                                              State& state) const {
  state.additional_kv = inputs.self_attn_additional_kv;
  if (state.additional_kv.empty()) return;
  if (!inputs.route_additional_kv_to_top) return;
  if (inputs.detach_additional_kv) {
    for (auto& [k, v] : state.additional_kv) {
      k = k.detach();
      v = v.detach();
    }
  }
  // Of more pairs than layers, drop_unread has left the last.
  const auto layers = layers_run(LayerType::attention, inputs.layers_execute_order);
  auto& given = state.additional_kv;
  given.insert(given.begin(), layers - given.size(), {});
}

AttentionLayersImpl::State AttentionLayersImpl::begin(const AttentionLayersInputs& inputs) {
  State state;
  state.context = inputs.context;
  state.context_mask = inputs.context_mask;
  if (state.context_mask.defined())
    state.context_mask = state.context_mask.expand({-1, inputs.context.size(1)});
  state.attn_mask = inputs.attn_mask;
  state.self_attn_kv_mask = inputs.self_attn_kv_mask;
  if (inputs.self_attn_kv_mask.defined() && inputs.self_attn_kv_mask.size(1) == 1) {
    const auto keys = inputs.memory_keys() + inputs.token_keys();
    state.self_attn_kv_mask = inputs.self_attn_kv_mask.expand({-1, keys});
  }
  if (options_.kind == LayersKind::prefix_decoder) {
    const auto n = inputs.x.size(1);
    auto visible = causal_mask(n, n, inputs.x.device());
    if (inputs.prefix_attn_len.defined()) {
      visible = visible | (range_like(0, n, inputs.x) < inputs.prefix_attn_len.view({-1, 1, 1, 1}));
    }
    state.attn_mask = mask_and(visible, inputs.attn_mask);
  }
  if (inputs.condition.defined()) {
    state.condition =
        inputs.condition.dim() == 2 ? inputs.condition.unsqueeze(1) : inputs.condition;
    if (condition_mlp_) state.condition = at::silu(condition_mlp_->forward(state.condition));
  }
  if (inputs.documents.defined())
    state.documents = std::make_shared<Documents>(with_rows(inputs.documents, inputs.x.size(0)));
  place(inputs, state);
  state.position = stage_of_positions(inputs, inputs.memory_given());
  if (!has_position_bias()) {
    state.attn_bias = inputs.attn_bias;
  } else if (!is_given(state.position)) {
    state.attn_bias = bias_of_positions(inputs, inputs.memory_given());
  }
  inject_input(inputs, state);
  route_additional_kv(inputs, state);
  state.x = inputs.x;
  if (stream_emb_.defined())
    state.x = (inputs.x.unsqueeze(1) + stream_emb_.unsqueeze(1)).flatten(0, 1);
  if (options_.resi_dual) state.dual = inputs.x * options_.resi_dual_scale;
  return state;
}

BranchOutput AttentionLayersImpl::run_self_attention(Layer& layer, State& state,
                                                     const AttentionLayersInputs& inputs,
                                                     BranchInputs branch) {
  const auto index = state.self_attentions++;
  MixingInputs mixing;
  branch.mixing = &mixing;
  branch.context_mask = state.self_attn_kv_mask;
  mixing.attn_mask = state.attn_mask;
  mixing.attn_bias = state.attn_bias;
  mixing.position = state.position;
  mixing.rotary = state.rotary ? &*state.rotary : nullptr;
  mixing.polar = state.polar ? &*state.polar : nullptr;
  mixing.prev_attn = state.prev_attn;
  mixing.mem = item_or_empty(inputs.mems, index);
  const auto memory = mixing.mem.defined() ? mixing.mem.size(1) : 0;
  if (memory != inputs.memory_given() && has_position_bias()) {
    if (is_given(mixing.position)) {
      mixing.position = stage_of_positions(inputs, memory);
    } else {
      mixing.attn_bias = bias_of_positions(inputs, memory);
    }
  }
  const bool holds_memories = inputs.cache && inputs.cache->memory_length > 0;
  if (mixing.mem.defined() || holds_memories)
    mixing.mem_mask = item_or_empty(inputs.mem_masks, index);
  if (mixing.mem.defined() && layer.pre_norm) {
    mixing.mem = layer.pre_norm->forward(mixing.mem, state.condition);
  }
  if (options_.add_value_residual) mixing.value_residual = state.first_self_values;
  mixing.additional_key_values = item_or_empty(state.additional_kv, index);
  mixing.additional_key_value_mask = inputs.additional_kv_mask;
  mixing.kv_input_residual = item_or_empty(inputs.self_attn_kv_residuals, index);
  if (inputs.flash_pack_seq_kwargs) mixing.packed = &*inputs.flash_pack_seq_kwargs;
  mixing.cached_memory = inputs.cache ? inputs.cache->memory_length : 0;
  mixing.keep_maps = inputs.keep_maps || options_.residual_attn;
  mixing.keep_cache = inputs.keep_caches;
  auto result = layer.block->run(branch);
  if (!state.first_self_values.defined()) state.first_self_values = result.values;
  if (options_.residual_attn) state.prev_attn = result.maps.pre_softmax_attn;
  return result;
}

BranchOutput AttentionLayersImpl::run_cross_attention(Layer& layer, State& state,
                                                      const AttentionLayersInputs& inputs,
                                                      BranchInputs branch) {
  const auto index = state.cross_attentions++;
  if (is_training() && options_.cross_attn_tokens_dropout > 0) {
    std::tie(state.context, state.context_mask) =
        dropout_seq(state.context, state.context_mask, options_.cross_attn_tokens_dropout);
  }
  MixingInputs mixing;
  branch.mixing = &mixing;
  branch.context = state.context;
  branch.context_mask = state.context_mask;
  mixing.rotary = state.cross_rotary ? &*state.cross_rotary : nullptr;
  mixing.prev_attn = state.prev_cross_attn;
  if (options_.add_value_residual) mixing.value_residual = state.first_cross_values;
  mixing.kv_input_residual = item_or_empty(inputs.cross_attn_kv_residuals, index);
  if (inputs.flash_pack_seq_context_kwargs) mixing.packed = &*inputs.flash_pack_seq_context_kwargs;
  mixing.keep_maps = inputs.keep_maps || options_.cross_residual_attn;
  mixing.keep_cache = inputs.keep_caches;
  auto result = layer.block->run(branch);
  if (!state.first_cross_values.defined()) state.first_cross_values = result.values;
  if (options_.cross_residual_attn) state.prev_cross_attn = result.maps.pre_softmax_attn;
  return result;
}

BranchOutput AttentionLayersImpl::run_branch(Layer& layer, State& state,
                                             const AttentionLayersInputs& inputs,
                                             const at::Tensor& x, const BranchEnds& ends) {
  BranchInputs branch;
  branch.x = x;
  branch.ends = ends;
  branch.seq_start_pos = inputs.seq_start_pos;
  branch.started = state.started;
  branch.documents = state.documents.get();
  branch.condition = state.condition;
  if (inputs.cache) branch.state = inputs.cache->layers.at(state.layers).get();
  ++state.layers;
  if (layer.step.type == LayerType::feed_forward) {
    const auto index = static_cast<int64_t>(state.feed_forwards++);
    if (inputs.deep_embeds.defined() && index < inputs.deep_embeds.size(2))
      branch.deep_embed = inputs.deep_embeds.select(2, index);
  }
  if (!is_attention(layer.step.type)) return layer.block->run(branch);
  branch.mask = inputs.mask;
  const bool is_cross = layer.step.type == LayerType::cross_attention;
  auto result = is_cross ? run_cross_attention(layer, state, inputs, branch)
                         : run_self_attention(layer, state, inputs, branch);
  if (inputs.keep_maps || inputs.keep_caches)
    state.output.attention.push_back({is_cross, result.maps, result.kept});
  return result;
}

/// What of the pre-norm of x is left to the branch, whose products of a few rows do it on the way.
std::optional<RowNorm> AttentionLayersImpl::norm_of_branch(const Layer& layer,
                                                           const at::Tensor& x) const {
  const bool is_left = layer.pre_norm && layer.block->takes_ends() && takes_ends(x);
  return is_left ? layer.pre_norm->row_norm() : std::nullopt;
}

/// Whether the branch's last product adds the residual connection.
bool AttentionLayersImpl::leaves_residual(const Layer& layer, const at::Tensor& residual) const {
  if (!layer.block->takes_ends() || !layer.residual->only_adds()) return false;
  // What a branch adds is seen by others in these.
  const bool is_seen = layer.post_branch_norm || options_.resi_dual || current_probe() != nullptr;
  return !is_seen && (takes_ends(residual) || adds_in_product(residual));
}

bool AttentionLayersImpl::run_layer(Layer& layer, State& state,
                                    const AttentionLayersInputs& inputs) {
  if (options_.unet_skips) state.skip_hiddens.push_back(state.x);
  if (layer.skip_combine) {
    const auto& skip = state.skip_hiddens.at(static_cast<size_t>(*layer.step.skip_from));
    state.x = layer.skip_combine->forward(state.x, skip);
  }
  const bool is_self_attention = layer.step.type == LayerType::attention;
  // Also of a layer that is left out: the memories of the next call are picked by their places.
  if (is_self_attention && inputs.keep_hiddens) state.output.hiddens.push_back(state.x);
  if (is_training() && layer.step.dropout > 0 && at::rand({}).item<double>() < layer.step.dropout) {
    // A layer left out is the identity, and what counts layers goes on counting.
    if (options_.integrate_layers)
      state.layer_hiddens.push_back(layer.residual->prepare(state.x).branch_input);
    if (is_self_attention) ++state.self_attentions;
    if (layer.step.type == LayerType::cross_attention) ++state.cross_attentions;
    if (layer.step.type == LayerType::feed_forward) ++state.feed_forwards;
    ++state.layers;
    return false;
  }

  show(*layer.block, shown_name(layer.step.type), state.x);
  auto prepared = layer.residual->prepare(state.x);
  auto x = prepared.branch_input;
  if (inputs.keep_hiddens || options_.integrate_layers) state.layer_hiddens.push_back(x);
  if (layer.integrator) {
    auto integrated = layer.integrator->mix(x, state.layer_hiddens);
    x = integrated.mixed;
    state.layer_hiddens = std::move(integrated.layers);
  }
  if (state.inject.defined()) x = x + state.inject;
  BranchEnds ends;
  ends.norm = norm_of_branch(layer, x);
  if (layer.pre_norm && !ends.norm) {
    const auto norm = layer.pre_norm->row_norm();
    if (norm && x.is_same(prepared.residual)) {
      auto both = norm_beside(x, *norm);
      x = std::move(both.normed);
      prepared.residual = std::move(both.x);
    } else {
      x = layer.pre_norm->forward(x, state.condition);
    }
  }
  if (leaves_residual(layer, prepared.residual)) ends.residual = prepared.residual;

  auto out = run_branch(layer, state, inputs, x, ends).out;
  if (ends.residual.defined()) {
    state.x = out;
    if (layer.post_main_norm) state.x = layer.post_main_norm->forward(state.x, state.condition);
    return true;
  }
  if (layer.post_branch_norm) out = layer.post_branch_norm->forward(out, state.condition);
  show(*layer.block, probed::kBranch, out);
  state.x = layer.residual->forward(out, prepared);
  if (state.dual.defined()) state.dual = state.dual + out * options_.resi_dual_scale;
  if (layer.post_main_norm) state.x = layer.post_main_norm->forward(state.x, state.condition);
  show(*layer.block, probed::kStream, state.x);
  return true;
}

/// Of the layer that was run last: what it gives is that of a block, where it ends one.
void AttentionLayersImpl::keep_block(State& state) const {
  const auto run = static_cast<int64_t>(state.layers);
  const bool is_end = run % plan_.default_block_length == 0 || state.layers == layers_.size();
  if (is_end) state.output.block_hiddens.push_back(state.x);
}

void AttentionLayersImpl::show_ending(const State& state) {
  auto* probe = current_probe();
  if (probe == nullptr || !probe->wants_endings()) return;
  auto ended = state;  // finish takes what a state has
  probe->see(*this, probed::kEnding, finish(ended).out);
}

void AttentionLayersImpl::run_layers(const std::vector<int64_t>& order, State& state,
                                     const AttentionLayersInputs& inputs) {
  come_to(order);
  const bool keeps_blocks =
      inputs.keep_hiddens && options_.compat.meaning().block_hiddens_are_returned;
  for (const auto index : order) {
    const bool was_run = run_layer(layers_[static_cast<size_t>(index)], state, inputs);
    if (was_run && keeps_blocks) keep_block(state);
    show_ending(state);
  }
}

void AttentionLayersImpl::run_recomputed(const std::vector<int64_t>& order, State& state,
                                         const AttentionLayersInputs& inputs) {
  const auto self = std::dynamic_pointer_cast<AttentionLayersImpl>(shared_from_this());
  const auto layers = static_cast<size_t>(recomputed_blocks_ * plan_.block_length);
  for (size_t first = 0; first < order.size(); first += layers) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(first);
    const auto count = std::min(layers, order.size() - first);
    const std::vector<int64_t> part(begin, begin + static_cast<std::ptrdiff_t>(count));
    auto begun = state;
    begun.output = {};
    begun.position = with_own_matrix(state.position);
    const Recomputing recomputing(
        [self, part, begun, inputs]() mutable { self->run_layers(part, begun, inputs); },
        state.x.device());
    run_layers(part, state, inputs);
  }
}

LayersOutput AttentionLayersImpl::finish(State& state) {
  auto x = state.x;
  if (options_.softclamp_output) {
    x = (x / options_.softclamp_output_value).tanh() * options_.softclamp_output_value;
  }
  if (stream_emb_.defined()) x = x.unflatten(0, {-1, options_.num_residual_streams}).sum(1);
  if (state.dual.defined()) {
    x = x + final_norm_->forward(state.dual, state.condition);
  } else if (final_norm_) {
    x = final_norm_->forward(x, state.condition);
  }
  state.output.layer_hiddens = std::move(state.layer_hiddens);
  if (!state.output.block_hiddens.empty()) state.output.block_hiddens.back() = x;
  state.output.out = x;
  return std::move(state.output);
}

LayersOutput AttentionLayersImpl::forward(const AttentionLayersInputs& given) {
  require(given.x.defined(), at("x"), "is needed");
  require(!options_.cross_attend || given.context.defined(), at("context"),
          "is needed, as {} is on", option("cross_attend"));
  require(options_.cross_attend || !given.context.defined(), at("context"), "given, but {} is off",
          option("cross_attend"));
  auto inputs = given;
  drop_unread(inputs);
  // As in Python, one batch entry beside several is repeated; with a cache it stands for itself.
  if (!inputs.cache && inputs.x.dim() == 3 && inputs.x.size(0) == 1)
    inputs.x = with_rows(inputs.x, count_batch_entries(inputs));
  check(inputs);
  auto state = begin(inputs);
  show(*this, probed::kStack, state.x);
  show_ending(state);
  const auto order = plan_.order_of(inputs.layers_execute_order);
  const bool is_recomputed =
      recomputed_blocks_ > 0 && is_training() && at::GradMode::is_enabled() && !inputs.cache;
  if (is_recomputed) {
    run_recomputed(order, state, inputs);
  } else {
    for (const auto layer : order) run_layers({layer}, state, inputs);
  }
  if (inputs.keep_hiddens) state.layer_hiddens.push_back(state.x);
  if (inputs.cache) {
    inputs.cache->length += inputs.x.size(1);
    const bool is_first = inputs.cache->length == inputs.x.size(1);
    if (is_first && !inputs.mems.empty() && inputs.mems[0].defined()) {
      inputs.cache->memory_length = inputs.mems[0].size(1);
    }
  }
  return finish(state);
}

std::shared_ptr<torch::nn::Module> AttentionLayersImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    auto copy = std::make_shared<AttentionLayersImpl>(options_);
    copy->recomputed_blocks_ = recomputed_blocks_;
    return copy;
  });
}

}  // namespace x_transformers
