#include "x_transformers/layers/attention_pool.h"

#include <ATen/ATen.h>

#include <set>
#include <string>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/nn/input_dtype.h"

namespace x_transformers {
namespace {

/// Options of the pool's attention: within attn_kwargs, but for those that the pool has itself.
OptionPath spell_attention(const OptionPath& path) {
  static const std::set<std::string> own = {"dim", "dim_context", "heads", "dim_head"};
  const bool is_own = path.empty() || own.count(path.front()) > 0;
  return is_own ? path : OptionPath("attn_kwargs") / path;
}

/// Throws InputError where attn_kwargs set what the pool sets itself.
void require_further(const AttentionPoolOptions& o) {
  const auto& given = o.attn_kwargs;
  const AttentionOptions usual;
  const auto refuse = [](bool is_given, const char* name) {
    require(!is_given, at(OptionPath("attn_kwargs") / name), "is the pool's own {}", option(name));
  };
  refuse(given.dim != usual.dim, "dim");
  refuse(given.dim_context != usual.dim_context, "dim_context");
  refuse(given.heads != usual.heads, "heads");
  refuse(given.dim_head != usual.dim_head, "dim_head");
}

Attention make_attention(const AttentionOptions& options) {
  return spelled(spelled_by(spell_attention), [&] { return Attention(options); });
}

}  // namespace

AttentionPoolImpl::AttentionPoolImpl(AttentionPoolOptions options) : options_(std::move(options)) {
  const auto& o = options_;
  require_further(o);
  const bool squeeze = o.squeeze_output.value_or(false);
  const bool whole_blocks = o.use_transformer_blocks.value_or(o.depth > 1);
  require_size(o.dim, "dim");
  require_size(o.num_pooled_tokens, "num_pooled_tokens");
  require_size(o.dim_context, "dim_context");
  require_modules(o.depth, "depth");
  require_size(o.heads, "heads");
  require_size(o.dim_head, "dim_head");
  require(!squeeze || o.num_pooled_tokens == 1, at("squeeze_output"), "needs {} = 1",
          option("num_pooled_tokens"));
  require(whole_blocks || o.depth == 1, at("depth"), "more than 1 needs {}",
          option("use_transformer_blocks"));
  require(!whole_blocks || !o.add_residual, at("add_residual"),
          "whole blocks have residuals of their own");

  constexpr double kInitScale = 1e-2;
  queries_ = register_parameter("queries", at::randn({o.num_pooled_tokens, o.dim}) * kInitScale);
  const auto dim_context = o.dim_context.value_or(o.dim);
  if (whole_blocks) {
    if (options_to_json(o.attn_kwargs) != options_to_json(AttentionOptions{}))
      warn_unused(at("attn_kwargs"),
                  "change nothing, whole blocks ({}, {} > 1) have attention of their own",
                  option("use_transformer_blocks"), option("depth"));
    AttentionLayersOptions blocks;
    blocks.kind = LayersKind::cross_attender;
    blocks.compat = o.compat;
    blocks.dim = o.dim;
    blocks.depth = o.depth;
    blocks.heads = o.heads;
    blocks.attn.dim_head = o.dim_head;
    blocks.cross_attn = blocks.attn;
    blocks.cross_attn->dim_context = dim_context;
    blocks_ = register_module("pooler", AttentionLayers(blocks));
  } else {
    auto attention = o.attn_kwargs;
    attention.compat = o.compat;
    attention.dim = o.dim;
    attention.dim_context = dim_context;
    attention.heads = o.heads;
    attention.dim_head = o.dim_head;
    attention_ = register_module("pooler", make_attention(attention));
  }
}

at::Tensor AttentionPoolImpl::forward(const AttentionPoolInputs& given) {
  const auto& context = given.context;
  require_tensor(
      context, "context", TensorKind::floating,
      {{"batch"}, {"seq"}, {"dim_context", options_.dim_context.value_or(options_.dim)}});
  require_dtype_of(*this, context, "context");
  AxisSizes sizes;
  sizes[Axis::batch] = context.size(0) == 1 ? count_batch_entries(given) : context.size(0);
  sizes[Axis::tokens] = context.size(1);
  require_inputs(given, sizes);
  const auto queries = queries_.unsqueeze(0).expand({sizes[Axis::batch], -1, -1});
  at::Tensor pooled;
  if (blocks_) {
    AttentionLayersInputs inputs;
    inputs.x = queries;
    inputs.context = context;
    inputs.context_mask = given.mask;
    pooled = blocks_->forward(inputs).out;
  } else {
    AttentionInputs inputs;
    inputs.x = queries;
    inputs.context = context;
    inputs.context_mask = given.mask;
    pooled = attention_->forward(inputs).out;
  }
  if (options_.add_residual) pooled = pooled + queries;
  return options_.squeeze_output.value_or(false) ? pooled.squeeze(1) : pooled;
}

std::shared_ptr<torch::nn::Module> AttentionPoolImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] { return std::make_shared<AttentionPoolImpl>(options_); });
}

}  // namespace x_transformers
