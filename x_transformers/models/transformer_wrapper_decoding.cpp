// Decoding with a TransformerWrapper: what can be cached, and how a session gets its logits.
#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/models/length_session.h"
#include "x_transformers/models/step_inputs.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

/// What around the stack needs the whole sequence, in calls with these recycle_steps, which may
/// pool what the stack gives.
Text TransformerWrapperImpl::own_cache_unsupported(std::optional<int64_t> recycle_steps,
                                                   bool pools) const {
  const auto& o = options_;
  const std::pair<const char*, bool> whole[] = {
      {"recycling", o.recycling && recycle_steps != 1},
      {"memory_tokens_interspersed_every", o.has_interspersed_memory()},
      {"average_pool_embed", o.average_pool_embed},
      {"use_cls_token", o.use_cls_token},
      {"attn_pool", o.attn_pool && pools}};
  for (const auto& [name, is_on] : whole) {
    if (is_on) return text("{} needs the whole sequence", option(name));
  }
  if (given_token_emb_ && !given_token_emb_.is_per_token)
    return text("{} may look at other tokens", option("token_emb"));
  if (head_is_per_token()) return {};
  return text("{} may look at other tokens", option("to_logits"));
}

Text TransformerWrapperImpl::cache_unsupported() const {
  auto reason = own_cache_unsupported(std::nullopt, /*pools=*/true);
  return reason.empty() ? respelled(attn_layers_->cache_unsupported(), below("attn_layers"))
                        : reason;
}

Text TransformerWrapperImpl::cache_unsupported(const TransformerInputs& inputs) const {
  if (const auto reason = cache_unsupported(); !reason.empty()) return reason;
  const auto attentions =
      attn_layers_->layers_run(LayerType::attention, inputs.layers.layers_execute_order);
  return whole_sequence_unsupported(inputs, attentions);
}

Text TransformerWrapperImpl::static_cache_unsupported(const TransformerInputs& inputs) const {
  if (varies_by_step(inputs)) return "some input is another for each token";
  return respelled(attn_layers_->static_cache_unsupported(), below("attn_layers"));
}

Text TransformerWrapperImpl::padding_unsupported(const TransformerInputs& inputs) const {
  if (memory_tokens() > 0) return "memory tokens stand before the padding";
  auto reason = respelled(attn_layers_->padding_unsupported(), below("attn_layers"));
  // What needs the whole sequence would take the padding for a part of it.
  if (reason.empty()) reason = cache_unsupported();
  if (!reason.empty()) return reason;
  any_given(inputs, [&](const char* name, const InputField& field) {
    if (!field.beside_padding) return false;
    reason = text("{} {}", option(name), field.beside_padding);
    return true;
  });
  return reason;
}

int64_t TransformerWrapperImpl::entries_before_tokens(const TransformerInputs& inputs) const {
  require_tensor(inputs.prepend_embeds, "prepend_embeds", TensorKind::floating,
                 {{"batch"}, {"prepended"}, {"emb_dim", emb_dim()}});
  const auto prepended = inputs.prepend_embeds.defined() ? inputs.prepend_embeds.size(1) : 0;
  return memory_tokens() + prepended;
}

at::Tensor TransformerWrapperImpl::last_logits(const at::Tensor& embeddings,
                                               const TransformerInputs& inputs) {
  const auto last = embeddings.size(1) - 1;
  auto arguments = inputs.to_logits_kwargs;
  if (!head_is_per_token()) return head(embeddings, arguments).select(1, last);
  // Only the last position goes through the head.
  for (auto& [name, t] : arguments)
    if (t.dim() > 1 && t.size(1) > 1) t = t.narrow(1, t.size(1) - 1, 1);
  return head(embeddings.narrow(1, last, 1), arguments).select(1, 0);
}

bool TransformerWrapperImpl::python_caches_beside_mems() const {
  const auto& layers = options_.attn_layers;
  // Rotary positions are counted from the start of a cache that outlives its segment.
  const bool outgrows_angles =
      layers.rotary_pos_emb && options_.compat.meaning().xl_generation_keeps_its_cache;
  return !outgrows_angles && !layers.rotary_xpos && !layers.polar_pos_emb &&
         !layers.attn.use_latent_kv;
}

TransformerCache TransformerWrapperImpl::make_cache(int64_t capacity) const {
  TransformerCache cache;
  cache.layers = attn_layers_->make_cache(capacity);
  return cache;
}

/// What can be decoded with a cache never looks ahead; but memories stand in the middle of xpos'
/// positions, which the last token moves.
bool TransformerWrapperImpl::hides_last_token() const {
  return !attn_layers_->options().rotary_xpos && cache_unsupported().empty();
}

std::unique_ptr<DecodingSession> TransformerWrapperImpl::start_session(SessionOptions options) {
  const auto self = std::dynamic_pointer_cast<TransformerWrapperImpl>(shared_from_this());
  return make_session(self, options);
}

}  // namespace x_transformers
