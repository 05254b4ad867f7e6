// What a call of TransformerWrapper must give. Reads shapes and types, and values only of ids on
// the CPU.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/models/embedded_sequence.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {
namespace {

/// Entries of the batch: those of x, or, beside one of it that no cache goes on from, of what else
/// is embedded.
int64_t batch_of(const TransformerInputs& inputs) {
  if (!inputs.x.defined()) return kAnySize;
  if (inputs.cache || inputs.x.size(0) != 1) return inputs.x.size(0);
  return count_batch_entries(inputs);
}

}  // namespace

/// What the stack does not see as it was given.
void TransformerWrapperImpl::check(const TransformerInputs& inputs) const {
  require(inputs.x.defined() || inputs.prepend_embeds.defined(), at("x"),
          "is needed, unless there are {}", option("prepend_embeds"));
  if (!given_token_emb_) {
    require_tensor(inputs.x, "x", TensorKind::integer, {{"batch"}, {"seq"}});
  } else if (inputs.x.defined()) {
    if (ff_deep_embed_.defined())
      require_tensor(inputs.x, "x", TensorKind::integer, {{"batch"}, {"seq"}});
    // The module judges what it embeds.
    expect(inputs.x.dim() >= 2, at("x"), shown(inputs.x.sizes()), "[batch, seq, ...]");
  }
  AxisSizes sizes;
  sizes[Axis::batch] = batch_of(inputs);
  if (inputs.x.defined()) sizes[Axis::tokens] = inputs.x.size(1);
  sizes[Axis::emb_dim] = emb_dim();
  if (inputs.prepend_embeds.defined() && inputs.prepend_embeds.dim() == 3)
    sizes[Axis::prepended] = inputs.prepend_embeds.size(1);
  auto of_mask = sizes;
  of_mask[Axis::tokens] = inputs.x.defined() ? inputs.x.size(1) : 0;
  require_mask(inputs, of_mask);
  require_inputs(inputs, sizes);
  require_in_range_on_cpu(inputs, *this);
  require(!ff_deep_embed_.defined() || !inputs.layers.deep_embeds.defined(),
          at("deep_embeds_and_ids"), "given, but {} has factors of the model's own",
          option("ff_deep_embed"));
  require(inputs.x.defined() || !ff_deep_embed_.defined(), at("x"),
          "is needed, as {} has a factor for each token", option("ff_deep_embed"));
  if (inputs.layers.documents.defined()) {
    const auto reason = documents_unsupported();
    require(reason.empty(), at("documents"), "{}", reason);
    require(!inputs.prepend_embeds.defined() && !inputs.pos.defined() &&
                !inputs.seq_start_pos.defined(),
            at("documents"), "cannot be combined with {}, {} or {}", option("prepend_embeds"),
            option("pos"), option("seq_start_pos"));
  }
  if (!inputs.x.defined()) return;
  const auto n = inputs.x.size(1);
  if (inputs.goes_on()) {
    const auto reason = own_cache_unsupported(inputs.recycle_steps, inputs.attn_pool);
    require(reason.empty(), at("cache"), "{}", reason);
  }
  const bool prepends = inputs.prepend_embeds.defined() && inputs.prepend_embeds.size(1) > 0;
  const bool has_no_tokens = prepends || (!inputs.goes_on() && memory_tokens() > 0) ||
                             (!inputs.goes_on() && cls_token_.defined());
  // The factors of a single token are broadcast.
  require(!(ff_deep_embed_.defined() && has_no_tokens && n != 1), at("ff_deep_embed"),
          "has no factors for what is no token ({}, {}, {})", option("prepend_embeds"),
          option("num_memory_tokens"), option("use_cls_token"));
  require(!(options_.average_pool_embed && prepends && inputs.mask.defined()),
          at("average_pool_embed"), "the mean over the tokens of a mask has no place for {}",
          option("prepend_embeds"));
  check_positions(inputs, sizes);
}

/// Positions of the tokens, or embeddings of them.
void TransformerWrapperImpl::check_positions(const TransformerInputs& inputs,
                                             const AxisSizes& sizes) const {
  const auto& pos = inputs.pos;
  if (!pos.defined() || pos.is_floating_point()) return;
  if (!embeds_positions() && !attn_layers_->reads_positions(inputs.layers))
    warn_unused(at("pos"), "changes nothing, the model has no positions to take it");
  if (embeds_positions()) require_positions(inputs, sizes);
}

}  // namespace x_transformers
