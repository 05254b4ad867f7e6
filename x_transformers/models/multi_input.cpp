#include "x_transformers/models/multi_input.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/unread_input.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {

void validate(const MultiInputTransformerWrapperOptions& o) {
  require(!o.num_tokens.empty(), at("num_tokens"), "expected at least one input, got none");
  for (const auto& [name, count] : o.num_tokens)
    require_size(count, OptionPath("num_tokens") / name);
  require_at_least(o.max_seq_len, 0, "max_seq_len");
  require_at_least(o.max_mem_len, 0, "max_mem_len");
  require_size(o.emb_dim, "emb_dim");
  require_count(o.num_memory_tokens, "num_memory_tokens");
  require_probability(o.emb_dropout, "emb_dropout");
  require_positive(o.emb_frac_gradient, "emb_frac_gradient");
  if (o.has_interspersed_memory()) {
    require_size(o.memory_tokens_interspersed_every, "memory_tokens_interspersed_every");
    require(o.attn_layers.kind == LayersKind::decoder, at("memory_tokens_interspersed_every"),
            "needs a Decoder");
  }
}

MultiInputTransformerWrapperImpl::MultiInputTransformerWrapperImpl(
    MultiInputTransformerWrapperOptions options)
    : options_(std::move(options)) {
  options_.attn_layers.compat = options_.compat;
  const auto& o = options_;
  validate(o);
  if (o.attn_z_loss_weight != MultiInputTransformerWrapperOptions{}.attn_z_loss_weight)
    warn_unused(at("attn_z_loss_weight"), "changes nothing, as in Python; that of a call counts");
  attn_layers_ = within("attn_layers", [&] { return AttentionLayers(o.attn_layers); });
  const auto dim = attn_layers_->options().dim;
  build_embeddings(emb_dim());
  if (emb_dim() != dim) project_emb_ = register_module("project_emb", Linear(emb_dim(), dim));
  register_module("attn_layers", attn_layers_);
  if (!o.return_only_embed) {
    auto scope = register_module("to_logits", make_scope());
    for (const auto& [name, count] : o.num_tokens)
      to_logits_.emplace(name, scope->register_module(name, linear_no_bias(dim, count)));
  }
  if (o.num_memory_tokens.value_or(0) > 0)
    memory_tokens_ = register_parameter("memory_tokens", at::randn({*o.num_memory_tokens, dim}));
}

void MultiInputTransformerWrapperImpl::build_embeddings(int64_t emb_dim) {
  const auto& o = options_;
  if (o.max_seq_len > 0 && o.use_abs_pos_emb && !attn_layers_->disable_abs_pos_emb()) {
    pos_emb_ = make_pos_emb({emb_dim, o.max_seq_len, o.scaled_sinu_pos_emb});
    register_module("pos_emb", pos_emb_);
  }
  auto scope = register_module("embeds", make_scope());
  for (const auto& [name, count] : o.num_tokens) {
    embeds_.emplace(name,
                    scope->register_module(name + "_embed", torch::nn::Embedding(count, emb_dim)));
  }
  if (o.post_emb_norm)
    post_emb_norm_ = register_module("post_emb_norm", std::make_shared<LayerNorm>(emb_dim));
}

std::optional<TokenLimit> MultiInputTransformerWrapperImpl::embedded_positions() const {
  return position_limit(pos_emb_.get());
}

const at::Tensor& MultiInputTransformerWrapperImpl::widest(const MultiInputs& inputs) const {
  const auto is_less = [](const auto& a, const auto& b) {
    return a.second.numel() < b.second.numel();
  };
  return std::max_element(inputs.x.begin(), inputs.x.end(), is_less)->second;
}

/// What the stack does not see as it was given. Reads shapes and types, and values only
/// of ids on the CPU.
void MultiInputTransformerWrapperImpl::check(const MultiInputs& inputs) const {
  for (const auto& [name, embedding] : embeds_)
    require(inputs.x.count(name) > 0, at(OptionPath("x") / name), "is needed, as {} names it",
            option("num_tokens"));
  for (const auto& [name, ids] : inputs.x) {
    require(embeds_.count(name) > 0, at(OptionPath("x") / name), "is not in {}",
            option("num_tokens"));
    require_tensor(ids, ("x." + name).c_str(), TensorKind::integer, {{"batch"}, {"seq"}});
  }
  const auto& widest_x = widest(inputs);
  for (const auto& [name, ids] : inputs.x) {
    require_tensor(ids, ("x." + name).c_str(), TensorKind::integer,
                   {{"batch", widest_x.size(0), true}, {"seq", widest_x.size(1)}});
    require_in_range_on_cpu(ids, "x." + name, {embeds_.at(name)->weight.size(0), "num_tokens"});
  }
  const auto sizes = sequence_sizes(inputs, widest_x, emb_dim());
  require_mask(inputs, sizes);
  require_inputs(inputs, sizes);
  if (inputs.goes_on()) {
    require(!options_.has_interspersed_memory(), at("cache"), "{} needs the whole sequence",
            option("memory_tokens_interspersed_every"));
  }
  if (inputs.pos.defined() && inputs.pos.is_floating_point()) return;
  require_positions(inputs, sizes);
  if (!pos_emb_ && inputs.pos.defined())
    warn_unused(at("pos"), "changes nothing, the model embeds no positions");
}

at::Tensor MultiInputTransformerWrapperImpl::embed(const MultiInputs& inputs) {
  at::Tensor x;
  for (const auto& [name, ids] : inputs.x) {
    const auto embedded = embeds_.at(name)->forward(ids.to(at::kLong));
    x = x.defined() ? x + embedded : embedded;
  }
  if (inputs.pos.defined() && inputs.pos.is_floating_point()) {
    x = x + inputs.pos;
  } else if (pos_emb_) {
    x = x + embed_positions(*pos_emb_, inputs, inputs.seq_start_pos, widest(inputs));
  }
  if (inputs.sum_embeds.defined()) x = x + inputs.sum_embeds;
  return post_emb_norm_ ? post_emb_norm_->forward(x) : x;
}

MultiOutput MultiInputTransformerWrapperImpl::forward(const MultiInputs& given) {
  auto inputs = given;
  drop_unless(inputs.prepend_embeds.defined(), inputs.prepend_mask, "prepend_mask",
              "there are no {}", at("prepend_embeds"));
  check(inputs);
  shift_mems(inputs.mems, options_.shift_mem_down);
  EmbeddedSequence sequence(embed(inputs), inputs);
  auto& x = sequence.x;
  const auto tokens = x.size(1);
  sequence.prepend(inputs.prepend_mask);
  if (options_.emb_frac_gradient < 1)
    x = x * options_.emb_frac_gradient + x.detach() * (1 - options_.emb_frac_gradient);
  if (options_.emb_dropout > 0) x = at::dropout(x, options_.emb_dropout, is_training());
  if (project_emb_) x = project_emb_->forward(x);
  sequence.add_memory_tokens(memory_tokens_, options_.memory_tokens_interspersed_every);
  auto layers = inputs.layers;
  layers.seq_start_pos = inputs.seq_start_pos;
  MultiOutput output{sequence.run(*attn_layers_, std::move(layers)), {}, inputs.mems};
  // Python takes as many outputs as there are tokens, from the prepended embeddings on.
  if (options_.compat.python_quirks && memory_tokens_.defined())
    output.embeddings = output.embeddings.narrow(1, 0, tokens);
  if (!inputs.logits) return output;
  for (auto& [name, head] : to_logits_) output.logits[name] = head->forward(output.embeddings);
  return output;
}

std::shared_ptr<torch::nn::Module> MultiInputTransformerWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device,
                [&] { return std::make_shared<MultiInputTransformerWrapperImpl>(options_); });
}

}  // namespace x_transformers
