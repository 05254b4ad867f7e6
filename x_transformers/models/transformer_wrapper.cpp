#include "x_transformers/models/transformer_wrapper.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/unread_input.h"
#include "x_transformers/models/embedded_sequence.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/linear_ends.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {
namespace {

std::string first_name(const CallableModule::NamedTensors& arguments) {
  return arguments.empty() ? std::string() : arguments.begin()->first;
}

}  // namespace

at::Tensor TransformerWrapperImpl::embed_tokens(const at::Tensor& tokens,
                                                const Positions& positions,
                                                const CallableModule::NamedTensors& arguments) {
  require(!token_emb_ || arguments.empty(), at("token_emb_kwargs"),
          "the embedding takes no argument '{}'", first_name(arguments));
  auto embedded =
      token_emb_ ? token_emb_->embed(tokens, positions) : given_token_emb_(tokens, arguments);
  if (token_emb_ && embedded.dim() == 2)
    embedded = embedded.unsqueeze(0).expand({tokens.size(0), -1, -1});
  require_tensor(embedded, "token_emb", TensorKind::floating,
                 {{"batch", tokens.size(0)}, {"seq", tokens.size(1)}, {"emb_dim", emb_dim()}});
  return embedded;
}

/// Where the `count` tokens of a call stand.
Positions TransformerWrapperImpl::positions_of_tokens(const TransformerInputs& inputs,
                                                      int64_t count) {
  const auto& documents = inputs.layers.documents;
  if (documents.defined()) return {Documents(documents).places, {}, 0};
  const bool is_embedded = inputs.pos.defined() && inputs.pos.is_floating_point();
  if (!is_embedded) return positions_of(inputs, inputs.seq_start_pos, count);
  return {at::Tensor(), inputs.seq_start_pos, inputs.goes_on() ? inputs.cache->length() : 0};
}

at::Tensor TransformerWrapperImpl::embed(const TransformerInputs& inputs) {
  auto tokens = inputs.x;
  if (!tokens.defined()) {
    tokens = at::empty({inputs.prepend_embeds.size(0), 0},
                       inputs.prepend_embeds.options().dtype(at::kLong));
  }
  const auto positions = positions_of_tokens(inputs, tokens.size(1));
  auto x = embed_tokens(tokens, positions, inputs.token_emb_kwargs);
  const bool is_embedded = inputs.pos.defined() && inputs.pos.is_floating_point();
  if (is_embedded) {
    x = x + inputs.pos;
  } else if (pos_emb_) {
    x = x + pos_emb_->forward(tokens.size(1), positions, x.device());
  }

  expect(inputs.embed_ids.size() == embeds_.size(), at("embed_ids"), inputs.embed_ids.size(),
         "{} ({})", embeds_.size(), option("embed_num_tokens"));
  for (const auto& [name, ids] : inputs.embed_ids) {
    const auto found = embeds_.find(name);
    require(found != embeds_.end(), at("embed_ids"), "'{}' is not in {}", name,
            option("embed_num_tokens"));
    x = x + found->second->forward(ids);
  }
  if (inputs.sum_embeds.defined()) x = x + inputs.sum_embeds;
  return post_emb_norm_ ? post_emb_norm_->forward(x) : x;
}

at::Tensor TransformerWrapperImpl::initial_embeds(const TransformerInputs& inputs) {
  const auto embedded = embed(inputs);
  return inputs.prepend_embeds.defined() ? cat_rows(inputs.prepend_embeds, embedded, 1) : embedded;
}

/// What the stack takes beside the sequence.
AttentionLayersInputs TransformerWrapperImpl::layers_inputs(const TransformerInputs& inputs) const {
  auto layers = inputs.layers;
  if (inputs.pos.defined() && !inputs.pos.is_floating_point() &&
      attn_layers_->reads_positions(layers))
    layers.pos = inputs.pos;
  layers.seq_start_pos = inputs.seq_start_pos;
  const bool feeds_forward =
      attn_layers_->layers_run(LayerType::feed_forward, layers.layers_execute_order) > 0;
  const bool is_left_out =
      recycled_proj_ && options_.compat.meaning().recycling_leaves_deep_embeds_out;
  if (ff_deep_embed_.defined() && !is_left_out && feeds_forward)
    layers.deep_embeds = ff_deep_embed_.index({inputs.x});
  return layers;
}

/// The stack, fed back its output where the model recycles.
LayersOutput TransformerWrapperImpl::run_layers(AttentionLayersInputs layers,
                                                std::optional<int64_t> recycle_steps) {
  if (!recycled_proj_) {
    require(recycle_steps.value_or(1) == 1, at("recycle_steps"), "needs a model with {}",
            option("recycling"));
    return attn_layers_->forward(layers);
  }
  auto steps = recycle_steps;
  if (!steps && is_training())
    steps = at::randint(1, options_.train_max_recycle_steps + 1, {1}).item<int64_t>();
  require(steps.has_value(), at("recycle_steps"), "is needed outside training");
  require_size(*steps, "recycle_steps");
  const auto x = layers.x;
  LayersOutput output;
  for (int64_t step = 0; step < *steps; ++step) {
    const at::AutoGradMode records(step == *steps - 1 && at::GradMode::is_enabled());
    if (step > 0) layers.x = x + recycled_proj_->forward(output.out.detach());
    output = attn_layers_->forward(layers);
  }
  return output;
}

void TransformerWrapperImpl::pool(const TransformerInputs& inputs, at::Tensor mask, at::Tensor x,
                                  TransformerOutput& output) {
  output.last_layer_hiddens = x;
  require(!(attn_pool_ && inputs.attn_pool && options_.average_pool_embed), at("attn_pool"),
          "{} leaves no sequence to pool", option("average_pool_embed"));
  if (options_.average_pool_embed) x = masked_mean(x, inputs.mask);
  if (cls_token_.defined()) {
    const auto count = options_.num_cls_tokens;
    output.last_layer_hiddens = x.narrow(1, count, x.size(1) - count);
    x = x.narrow(1, 0, count);
    if (count == 1) x = x.squeeze(1);
  }
  if (attn_pool_ && (inputs.attn_pool || !attn_layers_->options().causal)) {
    if (mask.defined() && mask.size(1) > x.size(1))
      mask = mask.narrow(1, mask.size(1) - x.size(1), x.size(1));
    output.attn_pooled_tokens = attn_pool_->forward({x, mask});
  }
  output.embeddings = std::move(x);
}

void TransformerWrapperImpl::apply_heads(TransformerOutput& output,
                                         const CallableModule::NamedTensors& arguments) {
  require(given_to_logits_ || arguments.empty(), at("to_logits_kwargs"),
          "the usual head takes no argument '{}'", first_name(arguments));
  auto x = output.embeddings;
  at::Tensor weights;
  if (to_mixture_) {
    weights = combine_mixture_->forward(x).softmax(-1);
    x = to_mixture_->forward(x).unflatten(-1, {options_.mixture_of_softmax_k, -1});
    output.mixture = x;
  }
  if (options_.tie_embedding) output.logits = {linear(x, tied_table(), at::Tensor())};
  if (given_to_logits_) output.logits = {given_to_logits_(x, arguments)};
  for (auto& head : to_logits_)
    output.logits.push_back(
        linear_with_ends(x, head->weight, head->bias, {.weights_are_old = true}));
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
              "there are no {}", at("prepend_embeds"));
  check(inputs);
  shift_mems(inputs.mems, options_.shift_mem_down);
  TransformerOutput output;
  EmbeddedSequence sequence(embed(inputs), inputs);
  auto& x = sequence.x;
  sequence.prepend(inputs.prepend_mask);
  if (options_.emb_frac_gradient < 1)
    x = x * options_.emb_frac_gradient + x.detach() * (1 - options_.emb_frac_gradient);
  output.init_embed = x;
  if (options_.emb_dropout > 0) x = at::dropout(x, options_.emb_dropout, is_training());
  if (project_emb_) x = project_emb_->forward(x);
  sequence.put_in_front(cls_token_);
  sequence.add_memory_tokens(memory_tokens_, options_.memory_tokens_interspersed_every);
  auto of_stack = sequence.run(
      [&](AttentionLayersInputs layers) {
        return run_layers(std::move(layers), inputs.recycle_steps);
      },
      layers_inputs(inputs));
  output.memory_tokens = of_stack.memory_tokens;
  output.layers = std::move(of_stack.layers);
  output.mems = inputs.mems;
  pool(inputs, sequence.mask(), of_stack.embeddings, output);
  if (inputs.next_embed_pred) {
    require(options_.add_continuous_pred_head, at("return_next_embed_pred"), "needs {}",
            option("add_continuous_pred_head"));
    output.next_embed_pred =
        next_embed_out_->forward(at::silu(next_embed_hidden_->forward(output.embeddings)));
  }
  if (inputs.logits && !options_.return_only_embed) apply_heads(output, inputs.to_logits_kwargs);
  return output;
}

at::Tensor TransformerWrapperImpl::head(const at::Tensor& embeddings,
                                        const CallableModule::NamedTensors& arguments) {
  require(!options_.return_only_embed, at("return_only_embed"), "the model has no head");
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

std::shared_ptr<torch::nn::Module> TransformerWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    return std::make_shared<TransformerWrapperImpl>(options_, cloned_as(given_embedding_, device));
  });
}

}  // namespace x_transformers
