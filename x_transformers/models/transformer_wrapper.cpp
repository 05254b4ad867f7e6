#include "x_transformers/models/transformer_wrapper.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/unread_input.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {

/// The embedded sequence on its way to the stack, and what was put around it.
struct TransformerWrapperImpl::Sequence {
  at::Tensor x, mask;
  at::Tensor kv_mask;         ///< a self_attn_kv_mask that was given for the tokens alone
  int64_t tokens = 0;         ///< tokens of the caller
  int64_t before_memory = 0;  ///< length before memory tokens
  int64_t prefix = 0;         ///< cls tokens, memory tokens and prepended embeddings
  bool has_memory = false;
};

namespace {

at::Tensor expand_batch(const at::Tensor& tokens, int64_t batch) {
  return tokens.unsqueeze(0).expand({batch, -1, -1});
}

/// A mask [1, length] that hides nothing.
at::Tensor all_true(int64_t length, const at::Tensor& like) {
  return at::ones({1, length}, like.options().dtype(at::kBool));
}

/// The self_attn_kv_mask, if it is one of the tokens alone, cached ones among them.
at::Tensor kv_mask_of_tokens(const TransformerInputs& inputs) {
  const auto& mask = inputs.layers.self_attn_kv_mask;
  const auto tokens =
      (inputs.goes_on() ? inputs.cache->length() : 0) + (inputs.x.defined() ? inputs.x.size(1) : 0);
  return mask.defined() && mask.dim() == 2 && mask.size(1) == tokens ? mask : at::Tensor();
}

at::Tensor masked_mean(const at::Tensor& x, const at::Tensor& mask) {
  if (!mask.defined()) return x.mean(1);
  const auto weights = mask.unsqueeze(-1);
  return (x * weights).sum(1) / weights.sum(1).clamp_min(1);
}

}  // namespace

at::Tensor TransformerWrapperImpl::embed_tokens(const at::Tensor& tokens,
                                                const Positions& positions,
                                                const CallableModule::NamedTensors& arguments) {
  if (given_token_emb_ || embedding_) {
    if (embedding_) require_no_arguments("token_emb_kwargs: an embedding", arguments);
    auto embedded =
        embedding_ ? embedding_->embed(tokens, positions) : given_token_emb_(tokens, arguments);
    if (embedding_ && embedded.dim() == 2)
      embedded = embedded.unsqueeze(0).expand({tokens.size(0), -1, -1});
    require_tensor(embedded, embedding_ ? "embedding" : "token_emb", TensorKind::floating,
                   {{"batch", tokens.size(0)}, {"seq", tokens.size(1)}, {"emb_dim", emb_dim()}});
    return embedded;
  }
  require_no_arguments("token_emb_kwargs: TokenEmbedding", arguments);
  return token_emb_->forward(tokens);
}

/// Where the `count` tokens of a call stand, of which `offset` are cached before.
Positions TransformerWrapperImpl::positions_of(const TransformerInputs& inputs, int64_t count,
                                               int64_t offset) const {
  const bool is_embedded = inputs.pos.defined() && inputs.pos.is_floating_point();
  auto positions = Positions{is_embedded ? at::Tensor() : inputs.pos, inputs.seq_start_pos, offset};
  if (is_embedded) return positions;
  const bool has_cached = inputs.goes_on() && inputs.pos.defined() && inputs.pos.dim() > 0;
  if (has_cached && inputs.pos.size(-1) > count)
    positions.pos = inputs.pos.narrow(-1, inputs.pos.size(-1) - count, count);  // others are cached
  if (inputs.cache && inputs.cache->layers.position.defined() && !inputs.pos.defined()) {
    positions.pos =
        inputs.cache->layers.position - (inputs.cache->prefix + inputs.cache->layers.memory_length);
  }
  return positions;
}

at::Tensor TransformerWrapperImpl::embed(const TransformerInputs& inputs, int64_t offset) {
  auto tokens = inputs.x;
  if (!tokens.defined()) {
    tokens = at::empty({inputs.prepend_embeds.size(0), 0},
                       inputs.prepend_embeds.options().dtype(at::kLong));
  }
  const auto positions = positions_of(inputs, tokens.size(1), offset);
  auto x = embed_tokens(tokens, positions, inputs.token_emb_kwargs);
  const bool is_embedded = inputs.pos.defined() && inputs.pos.is_floating_point();
  if (is_embedded) {
    x = x + inputs.pos;
  } else if (pos_emb_) {
    x = x + pos_emb_->forward(tokens.size(1), positions, x.device());
  }

  require(inputs.embed_ids.size() == embeds_.size(),
          fmt::format("embed_ids: expected {} (embed_num_tokens), got {}", embeds_.size(),
                      inputs.embed_ids.size()));
  for (const auto& [name, ids] : inputs.embed_ids) {
    const auto found = embeds_.find(name);
    require(found != embeds_.end(), "embed_ids: '" + name + "' is not in embed_num_tokens");
    x = x + found->second->forward(ids);
  }
  if (inputs.sum_embeds.defined()) x = x + inputs.sum_embeds;
  return post_emb_norm_ ? post_emb_norm_->forward(x) : x;
}

void TransformerWrapperImpl::prepend(const TransformerInputs& inputs, Sequence& s) const {
  if (!inputs.prepend_embeds.defined()) return;
  const auto added = inputs.prepend_embeds.size(1);
  s.x = cat_rows(inputs.prepend_embeds, s.x, 1);
  s.prefix += added;
  s.kv_mask = pad_mask_left(s.kv_mask, added);
  if (!inputs.prepend_mask.defined() && !s.mask.defined()) return;
  const auto prepend_mask =
      inputs.prepend_mask.defined() ? inputs.prepend_mask : all_true(added, s.x);
  const auto mask = s.mask.defined() ? s.mask : all_true(s.tokens, s.x);
  s.mask = cat_rows(prepend_mask, mask, 1);
}

void TransformerWrapperImpl::add_cls_tokens(Sequence& s) const {
  if (!cls_token_.defined()) return;
  s.x = at::cat({expand_batch(cls_token_, s.x.size(0)), s.x}, 1);
  s.prefix += options_.num_cls_tokens;
  for (auto* mask : {&s.mask, &s.kv_mask}) *mask = pad_mask_left(*mask, options_.num_cls_tokens);
}

/// In front of the sequence, or in front of each group of `memory_tokens_interspersed_every`
/// tokens.
void TransformerWrapperImpl::add_memory_tokens(Sequence& s) const {
  s.before_memory = s.x.size(1);
  if (!memory_tokens_.defined()) return;
  s.has_memory = true;
  const auto batch = s.x.size(0), count = memory_token_count();
  const auto every = options_.memory_tokens_interspersed_every;
  if (!every) {
    s.x = at::cat({expand_batch(memory_tokens_, batch), s.x}, 1);
    s.prefix += count;
    for (auto* mask : {&s.mask, &s.kv_mask}) *mask = pad_mask_left(*mask, count);
    return;
  }
  const auto padding = (*every - s.x.size(1) % *every) % *every;
  const auto groups =
      at::constant_pad_nd(s.x, {0, 0, 0, padding}, 0).unflatten(1, {-1, *every}).flatten(0, 1);
  s.x = at::cat({expand_batch(memory_tokens_, groups.size(0)), groups}, 1)
            .unflatten(0, {batch, -1})
            .flatten(1, 2);
  for (auto* mask : {&s.mask, &s.kv_mask}) {
    if (!mask->defined()) continue;
    const auto of_groups = at::constant_pad_nd(*mask, {0, padding}, 0).unflatten(1, {-1, *every});
    *mask = at::constant_pad_nd(of_groups, {count, 0}, 1).flatten(1);
  }
}

LayersOutput TransformerWrapperImpl::run_layers(const TransformerInputs& inputs,
                                                const Sequence& s) {
  auto layers = inputs.layers;
  layers.x = s.x;
  layers.mask = s.mask;
  layers.mems = inputs.mems;
  layers.mem_masks = inputs.mem_masks;
  if (inputs.pos.defined() && !inputs.pos.is_floating_point() &&
      attn_layers_->reads_positions(layers))
    layers.pos = inputs.pos;
  layers.seq_start_pos = inputs.seq_start_pos;
  if (inputs.cache) layers.cache = &inputs.cache->layers;
  if (inputs.goes_on() && inputs.cache->mask.defined()) {
    const auto& mask = inputs.cache->mask;
    layers.self_attn_kv_mask =
        at::constant_pad_nd(mask, {0, layers.token_keys() - mask.size(1)}, 1);
  }
  if (s.kv_mask.defined()) layers.self_attn_kv_mask = s.kv_mask;
  layers.keep_hiddens = inputs.keep_hiddens;
  layers.keep_maps = inputs.keep_maps;
  if (!recycled_proj_) {
    require(inputs.recycle_steps.value_or(1) == 1, "recycle_steps: needs a model with recycling");
    const bool feeds_forward =
        attn_layers_->layers_run(LayerType::feed_forward, layers.layers_execute_order) > 0;
    if (ff_deep_embed_.defined() && feeds_forward)
      layers.deep_embeds = ff_deep_embed_.index({inputs.x});
    return attn_layers_->forward(layers);
  }
  auto steps = inputs.recycle_steps;
  if (!steps && is_training())
    steps = at::randint(1, options_.train_max_recycle_steps + 1, {1}).item<int64_t>();
  require(steps.value_or(0) > 0, "recycle_steps: is needed outside training");
  LayersOutput output;
  for (int64_t step = 0; step < *steps; ++step) {
    const at::AutoGradMode records(step == *steps - 1 && at::GradMode::is_enabled());
    layers.x = step == 0 ? s.x : s.x + recycled_proj_->forward(output.out.detach());
    output = attn_layers_->forward(layers);
  }
  return output;
}

at::Tensor TransformerWrapperImpl::remove_memory_tokens(const Sequence& s, at::Tensor x,
                                                        TransformerOutput& output) const {
  if (!s.has_memory) return x;
  const auto count = memory_token_count();
  const auto batch = x.size(0);
  const auto every = options_.memory_tokens_interspersed_every;
  if (every) x = x.unflatten(1, {-1, *every + count}).flatten(0, 1);
  output.memory_tokens = x.narrow(1, 0, count);
  x = x.narrow(1, count, x.size(1) - count);
  if (every) x = x.unflatten(0, {batch, -1}).flatten(1, 2);
  return x.narrow(1, 0, s.before_memory);
}

void TransformerWrapperImpl::pool(const TransformerInputs& inputs, const Sequence& s, at::Tensor x,
                                  TransformerOutput& output) {
  output.last_layer_hiddens = x;
  require(!(attn_pool_ && inputs.attn_pool && options_.average_pool_embed),
          "attn_pool: average_pool_embed leaves no sequence to pool");
  if (options_.average_pool_embed) x = masked_mean(x, inputs.mask);
  if (cls_token_.defined()) {
    const auto count = options_.num_cls_tokens;
    output.last_layer_hiddens = x.narrow(1, count, x.size(1) - count);
    x = x.narrow(1, 0, count);
    if (count == 1) x = x.squeeze(1);
  }
  if (attn_pool_ && (inputs.attn_pool || !attn_layers_->options().causal)) {
    auto mask = s.mask;
    if (mask.defined() && mask.size(1) > x.size(1))
      mask = mask.narrow(1, mask.size(1) - x.size(1), x.size(1));
    output.attn_pooled_tokens = attn_pool_->forward({x, mask});
  }
  output.embeddings = std::move(x);
}

void TransformerWrapperImpl::apply_heads(TransformerOutput& output,
                                         const CallableModule::NamedTensors& arguments) {
  if (!given_to_logits_) require_no_arguments("to_logits_kwargs: the usual head", arguments);
  auto x = output.embeddings;
  at::Tensor weights;
  if (to_mixture_) {
    weights = combine_mixture_->forward(x).softmax(-1);
    x = to_mixture_->forward(x).unflatten(-1, {options_.mixture_of_softmax_k, -1});
    output.mixture = x;
  }
  if (options_.tie_embedding) output.logits = {linear(x, tied_table(), at::Tensor())};
  if (given_to_logits_) output.logits = {given_to_logits_(x, arguments)};
  for (auto& head : to_logits_) output.logits.push_back(head->forward(x));
  for (auto& logits : output.logits) {
    if (options_.sigsoftmax_logits) logits = logits + at::log_sigmoid(logits);
    if (weights.defined()) {
      const auto mixed = at::matmul(weights.unsqueeze(-2), logits.softmax(-1)).squeeze(-2);
      logits = mixed.clamp_min(1e-20).log();
    }
    if (options_.squeeze_out_last_dim && logits.size(-1) == 1) logits = logits.squeeze(-1);
  }
}

TransformerOutput TransformerWrapperImpl::forward(const TransformerInputs& given) {
  auto inputs = given;
  if (!given_token_emb_ && inputs.x.defined() && inputs.x.scalar_type() == at::kBool)
    inputs.x = inputs.x.to(at::kLong);
  drop_unless(inputs.prepend_embeds.defined(), inputs.prepend_mask, "prepend_mask",
              "there are no prepend_embeds");
  check(inputs);
  TransformerOutput output;
  Sequence s;
  s.x = embed(inputs, inputs.goes_on() ? inputs.cache->length() : 0);
  s.mask = inputs.mask;
  s.tokens = s.x.size(1);
  s.kv_mask = kv_mask_of_tokens(inputs);
  prepend(inputs, s);
  if (options_.emb_frac_gradient < 1) {
    s.x = s.x * options_.emb_frac_gradient + s.x.detach() * (1 - options_.emb_frac_gradient);
  }
  output.init_embed = s.x;
  if (options_.emb_dropout > 0) s.x = at::dropout(s.x, options_.emb_dropout, is_training());
  if (project_emb_) s.x = project_emb_->forward(s.x);
  if (!inputs.goes_on()) {
    add_cls_tokens(s);
    add_memory_tokens(s);
  } else {
    s.before_memory = s.x.size(1);
    s.kv_mask = pad_mask_left(s.kv_mask, inputs.cache->prefix);
    const bool is_of_tokens =
        s.mask.defined() && s.mask.size(1) == inputs.cache->length() + s.tokens;
    if (is_of_tokens) s.mask = pad_mask_left(s.mask, inputs.cache->prefix);
  }
  if (inputs.cache && !inputs.goes_on()) {
    inputs.cache->prefix = s.prefix;
    // Beside a mask of keys, the mask of tokens hides no keys.
    const bool hides_keys =
        !inputs.seq_start_pos.defined() && !inputs.layers.self_attn_kv_mask.defined();
    inputs.cache->mask = hides_keys ? s.mask : at::Tensor();
  }

  // As a slice of Python: from the end where negative, and no more than there are.
  const auto count = static_cast<int64_t>(inputs.mems.size());
  const auto down =
      options_.shift_mem_down < 0 ? count + options_.shift_mem_down : options_.shift_mem_down;
  std::rotate(
      inputs.mems.begin(),
      inputs.mems.begin() + static_cast<std::ptrdiff_t>(std::clamp<int64_t>(down, 0, count)),
      inputs.mems.end());
  output.layers = run_layers(inputs, s);
  output.mems = inputs.mems;
  pool(inputs, s, remove_memory_tokens(s, output.layers.out, output), output);
  if (inputs.next_embed_pred) {
    require(options_.add_continuous_pred_head,
            "return_next_embed_pred: needs add_continuous_pred_head");
    output.next_embed_pred =
        next_embed_out_->forward(at::silu(next_embed_hidden_->forward(output.embeddings)));
  }
  if (inputs.logits && !options_.return_only_embed) apply_heads(output, inputs.to_logits_kwargs);
  return output;
}

at::Tensor TransformerWrapperImpl::head(const at::Tensor& embeddings,
                                        const CallableModule::NamedTensors& arguments) {
  require(!options_.return_only_embed, "return_only_embed: the model has no head");
  TransformerOutput output;
  output.embeddings = embeddings;
  apply_heads(output, arguments);
  return output.logits[0];
}

at::Tensor TransformerWrapperImpl::forward(const at::Tensor& tokens) {
  TransformerInputs inputs;
  inputs.x = tokens;
  const auto output = forward(inputs);
  return output.logits.empty() ? output.embeddings : output.logits[0];
}

}  // namespace x_transformers
