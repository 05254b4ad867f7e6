#include "x_transformers/models/xval.h"

#include <ATen/ATen.h>

#include <cmath>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/models/step_inputs.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {

void validate(const XValTransformerWrapperOptions& o) {
  require_size(o.num_tokens, "num_tokens");
  require_at_least(o.max_seq_len, 0, "max_seq_len");
  require_at_least(o.max_mem_len, 0, "max_mem_len");
  require_count(o.num_memory_tokens, "num_memory_tokens");
  require_size(o.emb_dim, "emb_dim");
  require_size(o.logits_dim, "logits_dim");
  require_probability(o.emb_dropout, "emb_dropout");
  expect(o.numerical_token_id >= 0 && o.numerical_token_id < o.num_tokens, at("numerical_token_id"),
         o.numerical_token_id, "a token below {} = {}", option("num_tokens"), o.num_tokens);
  const auto dim = o.attn_layers.dim;
  expect(o.emb_dim.value_or(dim) == dim, at("emb_dim"), o.emb_dim.value_or(dim),
         "{} = {}, as nothing projects the embeddings", option(OptionPath("attn_layers") / "dim"),
         dim);
}

XValTransformerWrapperImpl::XValTransformerWrapperImpl(XValTransformerWrapperOptions options)
    : options_(std::move(options)) {
  options_.attn_layers.compat = options_.compat;
  const auto& o = options_;
  validate(o);
  attn_layers_ = within("attn_layers", [&] { return AttentionLayers(o.attn_layers); });
  const auto dim = attn_layers_->options().dim;
  token_emb_ =
      register_module("token_emb", TokenEmbedding(TokenEmbeddingOptions{dim, o.num_tokens}));
  if (o.use_abs_pos_emb && !attn_layers_->disable_abs_pos_emb()) {
    pos_emb_ = make_pos_emb({dim, o.max_seq_len, o.scaled_sinu_pos_emb});
    register_module("pos_emb", pos_emb_);
  }
  if (o.num_memory_tokens.value_or(0) > 0)
    memory_tokens_ = register_parameter("memory_tokens", at::randn({*o.num_memory_tokens, dim}));
  register_module("attn_layers", attn_layers_);
  UnusedOptions unused(text("{} makes the logits", option("tie_embedding")), o.tie_embedding);
  unused.add("logits_dim", o.logits_dim.has_value());
  warn_unused(unused.notices());
  if (!o.tie_embedding)
    to_logits_ = register_module("to_logits", Linear(dim, o.logits_dim.value_or(o.num_tokens)));
  auto scope = register_module("to_numerical_output", make_scope());
  to_numerical_output_ = scope->register_module("0", Linear(dim, 1));
}

TokenLimit XValTransformerWrapperImpl::predicted_tokens() const {
  const bool has_own = options_.logits_dim && !options_.tie_embedding;
  return has_own ? TokenLimit{*options_.logits_dim, "logits_dim"}
                 : TokenLimit{options_.num_tokens, "num_tokens"};
}

std::optional<TokenLimit> XValTransformerWrapperImpl::embedded_positions() const {
  return position_limit(pos_emb_.get());
}

/// What makes tied logits of embeddings.
at::Tensor XValTransformerWrapperImpl::tied_table() const {
  const auto table = token_emb_->weight();
  const bool scales = options_.compat.meaning().tied_logits_are_scaled;
  return scales ? table / std::sqrt(static_cast<double>(options_.attn_layers.dim)) : table;
}

std::vector<MeaningRead> XValTransformerWrapperImpl::meanings_read() const {
  if (!options_.tie_embedding) return {};
  return {{&PythonMeaning::tied_logits_are_scaled, "tie_embedding"}};
}

Text XValTransformerWrapperImpl::cache_unsupported(const XValInputs& inputs) const {
  auto reason = cache_unsupported();
  if (!reason.empty()) return reason;
  const auto attentions =
      attn_layers_->layers_run(LayerType::attention, inputs.layers.layers_execute_order);
  return whole_sequence_unsupported(inputs, attentions);
}

TransformerCache XValTransformerWrapperImpl::make_cache(int64_t capacity) const {
  TransformerCache cache;
  cache.layers = attn_layers_->make_cache(capacity);
  return cache;
}

/// What the stack does not see as it was given. Reads shapes and types, and values only
/// of ids on the CPU.
void XValTransformerWrapperImpl::check(const XValInputs& inputs) const {
  require(inputs.x.defined() && inputs.x_num.defined(), among({"x", "x_num"}), "are needed");
  require_tensor(inputs.x, "x", TensorKind::integer, {{"batch"}, {"seq"}});
  require_tensor(inputs.x_num, "x_num", TensorKind::any,
                 {{"batch", inputs.x.size(0)}, {"seq", inputs.x.size(1)}});
  require_in_range_on_cpu(inputs.x, "x", {options_.num_tokens, "num_tokens"});
  const auto sizes = sequence_sizes(inputs, inputs.x, options_.attn_layers.dim);
  // Python has a mask beside prepended embeddings that speaks of them too.
  const auto& embeds = inputs.prepend_embeds;
  const auto prepended = embeds.defined() && embeds.dim() == 3 ? embeds.size(1) : 0;
  const bool is_of_all = inputs.mask.defined() && inputs.mask.dim() == 2 &&
                         inputs.mask.size(1) == inputs.x.size(1) + prepended;
  auto of_mask = sizes;
  if (is_of_all) of_mask[Axis::tokens] = inputs.mask.size(1);
  require_mask(inputs, of_mask);
  require_inputs(inputs, sizes);
  require_positions(inputs, sizes);
  if (!pos_emb_ && inputs.pos.defined())
    warn_unused(at("pos"), "changes nothing, the model embeds no positions");
}

at::Tensor XValTransformerWrapperImpl::embed(const XValInputs& inputs) {
  auto has_number = inputs.x == options_.numerical_token_id;
  const auto numbers = inputs.x_num.to(token_emb_->weight().scalar_type());
  if (!options_.compat.python_quirks) has_number = has_number & ~numbers.isnan();
  const auto scale = at::where(has_number, numbers, at::ones({}, numbers.options()));
  auto x = token_emb_->forward(inputs.x) * scale.unsqueeze(-1);
  if (pos_emb_) x = x + embed_positions(*pos_emb_, inputs, {}, inputs.x);
  return x;
}

XValOutput XValTransformerWrapperImpl::forward(const XValInputs& inputs) {
  check(inputs);
  EmbeddedSequence sequence(embed(inputs), inputs);
  sequence.prepend();
  sequence.add_memory_tokens(memory_tokens_);
  if (options_.emb_dropout > 0)
    sequence.x = at::dropout(sequence.x, options_.emb_dropout, is_training());
  XValOutput output{sequence.run(*attn_layers_, inputs.layers), {}, {}};
  if (!inputs.heads) return output;
  output.logits = options_.tie_embedding ? linear(output.embeddings, tied_table(), at::Tensor())
                                         : to_logits_->forward(output.embeddings);
  output.numbers = to_numerical_output_->forward(output.embeddings).squeeze(-1);
  return output;
}

std::shared_ptr<torch::nn::Module> XValTransformerWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device,
                [&] { return std::make_shared<XValTransformerWrapperImpl>(options_); });
}

}  // namespace x_transformers
