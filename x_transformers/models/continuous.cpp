#include "x_transformers/models/continuous.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/unread_input.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/models/step_inputs.h"
#include "x_transformers/nn/input_dtype.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

/// Which of `n` entries exist: the first lens[i] of row i.
at::Tensor mask_of(const at::Tensor& lens, int64_t n) {
  const auto places = at::arange(n, at::TensorOptions().dtype(at::kLong).device(lens.device()));
  return places < lens.unsqueeze(-1);
}

}  // namespace

void validate(const ContinuousTransformerWrapperOptions& o) {
  require_at_least(o.max_seq_len, 0, "max_seq_len");
  require_at_least(o.max_mem_len, 0, "max_mem_len");
  require_count(o.num_memory_tokens, "num_memory_tokens");
  require_size(o.dim_in, "dim_in");
  require_size(o.dim_out, "dim_out");
  require_probability(o.emb_dropout, "emb_dropout");
  require(!(o.dim_in && o.project_in), among({"dim_in", "project_in"}), "at most one of them");
  require(!(o.dim_out && o.project_out), among({"dim_out", "project_out"}), "at most one of them");
  const bool splits_dim = o.probabilistic && !o.dim_out && !o.project_out;
  require(!splits_dim || o.attn_layers.dim % 2 == 0, at("probabilistic"),
          "splits the features into means and variances, which needs {} or an even {}",
          option("dim_out"), option(OptionPath("attn_layers") / "dim"));
}

ContinuousTransformerWrapperImpl::ContinuousTransformerWrapperImpl(
    ContinuousTransformerWrapperOptions options)
    : options_(std::move(options)) {
  options_.attn_layers.compat = options_.compat;
  const auto& o = options_;
  validate(o);
  attn_layers_ = within("attn_layers", [&] { return AttentionLayers(o.attn_layers); });
  const auto dim = attn_layers_->options().dim;
  if (max_seq_len() > 0 && o.use_abs_pos_emb && !attn_layers_->disable_abs_pos_emb()) {
    pos_emb_ = make_pos_emb({dim, max_seq_len(), o.scaled_sinu_pos_emb});
    register_module("pos_emb", pos_emb_);
  }
  if (o.post_emb_norm)
    post_emb_norm_ = register_module("post_emb_norm", std::make_shared<LayerNorm>(dim));
  if (o.num_memory_tokens.value_or(0) > 0)
    memory_tokens_ = register_parameter("memory_tokens", at::randn({*o.num_memory_tokens, dim}));
  register_module("attn_layers", attn_layers_);
  build_projections(dim);
}

void ContinuousTransformerWrapperImpl::build_projections(int64_t dim) {
  const auto& o = options_;
  const auto given = [&](const char* name, const ModuleSpec& spec) {
    auto made = within(name, [&] { return make_callable(spec, o.compat); });
    register_module(name, made.module);
    return made;
  };
  if (o.project_in) given_in_ = given("project_in", *o.project_in);
  if (o.dim_in) project_in_ = register_module("project_in", linear_no_bias(*o.dim_in, dim));
  if (o.project_out) given_out_ = given("project_out", *o.project_out);
  if (o.dim_out) {
    const auto features = *o.dim_out * (o.probabilistic ? 2 : 1);
    project_out_ = register_module("project_out", linear_no_bias(dim, features));
  }
}

std::optional<int64_t> ContinuousTransformerWrapperImpl::dim_in() const {
  if (given_in_) return std::nullopt;
  return options_.dim_in.value_or(options_.attn_layers.dim);
}

std::optional<int64_t> ContinuousTransformerWrapperImpl::dim_out() const {
  if (given_out_) return std::nullopt;
  const auto dim = options_.attn_layers.dim;
  return options_.dim_out.value_or(options_.probabilistic ? dim / 2 : dim);
}

std::optional<TokenLimit> ContinuousTransformerWrapperImpl::embedded_positions() const {
  return position_limit(pos_emb_.get());
}

std::vector<MeaningRead> ContinuousTransformerWrapperImpl::meanings_read() const {
  if (!options_.average_pool_embed) return {};
  return {{&PythonMeaning::continuous_pool_sums_features, "average_pool_embed"}};
}

Text ContinuousTransformerWrapperImpl::cache_unsupported() const {
  if (options_.average_pool_embed)
    return text("{} needs the whole sequence", option("average_pool_embed"));
  if (given_in_ && !given_in_.is_per_token)
    return text("{} may look at other tokens", option("project_in"));
  if (!head_is_per_token()) return text("{} may look at other tokens", option("project_out"));
  return respelled(attn_layers_->cache_unsupported(), below("attn_layers"));
}

Text ContinuousTransformerWrapperImpl::cache_unsupported(const ContinuousInputs& inputs) const {
  auto reason = cache_unsupported();
  if (!reason.empty()) return reason;
  const auto attentions =
      attn_layers_->layers_run(LayerType::attention, inputs.layers.layers_execute_order);
  return whole_sequence_unsupported(inputs, attentions);
}

TransformerCache ContinuousTransformerWrapperImpl::make_cache(int64_t capacity) const {
  TransformerCache cache;
  cache.layers = attn_layers_->make_cache(capacity);
  return cache;
}

/// What the stack does not see as it was given. Reads shapes and types only, never values.
void ContinuousTransformerWrapperImpl::check(const ContinuousInputs& inputs) const {
  require(inputs.x.defined(), at("x"), "is needed");
  if (!given_in_) {
    require_tensor(inputs.x, "x", TensorKind::floating,
                   {{"batch"}, {"seq"}, {"dim_in", dim_in().value_or(kAnySize)}});
    if (project_in_) require_dtype_of(*project_in_, inputs.x, "x");
  } else {
    require(inputs.x.dim() >= 2, at("x"), "expected [batch, seq, ...]");
  }
  require(!(inputs.lens.defined() && inputs.mask.defined()), among({"mask", "lens"}),
          "at most one of them");
  const auto sizes = sequence_sizes(inputs, inputs.x, options_.attn_layers.dim);
  require_mask(inputs, sizes);
  require_inputs(inputs, sizes);
  require_lengths(inputs.lens, "lens", {"batch", inputs.x.size(0), true}, 0, inputs.x.size(1));
  require_positions(inputs, sizes);
  if (!pos_emb_ && inputs.pos.defined())
    warn_unused(at("pos"), "changes nothing, the model embeds no positions");
  if (!pos_emb_ && inputs.seq_start_pos.defined())
    warn_unused(at("seq_start_pos"), "changes nothing, the model embeds no positions");
  if (inputs.goes_on()) {
    const auto reason = cache_unsupported();
    require(reason.empty(), at("cache"), "{}", reason);
  }
  require(!(options_.average_pool_embed && inputs.prepend_embeds.defined() &&
            (inputs.mask.defined() || inputs.lens.defined())),
          at("average_pool_embed"), "the mean over the tokens of a mask has no place for {}",
          option("prepend_embeds"));
}

at::Tensor ContinuousTransformerWrapperImpl::embed(const ContinuousInputs& inputs) {
  auto x = inputs.x;
  if (project_in_) x = project_in_->forward(x);
  if (given_in_) {
    x = within("project_in", [&] { return given_in_(x); });
    require_tensor(x, "project_in", TensorKind::floating,
                   {{"batch", inputs.x.size(0)},
                    {"seq", inputs.x.size(1)},
                    {"dim", options_.attn_layers.dim}});
  }
  if (pos_emb_) x = x + embed_positions(*pos_emb_, inputs, inputs.seq_start_pos, x);
  if (inputs.sum_embeds.defined()) x = x + inputs.sum_embeds;
  return post_emb_norm_ ? post_emb_norm_->forward(x) : x;
}

void ContinuousTransformerWrapperImpl::project_out(const at::Tensor& features,
                                                   ContinuousOutput& output) {
  auto& out = output.out;
  out = features;
  if (project_out_) out = project_out_->forward(features);
  if (given_out_) out = within("project_out", [&] { return given_out_(features); });
  if (!options_.probabilistic) return;
  expect(out.size(-1) % 2 == 0, at("probabilistic"), out.size(-1),
         "an even number of features, means and variances in turn");
  const auto pairs = out.unflatten(-1, {-1, 2});  // mean, log variance of each feature
  out = at::stack({pairs.select(-1, 0), pairs.select(-1, 1).exp()});
}

ContinuousOutput ContinuousTransformerWrapperImpl::forward(const ContinuousInputs& given) {
  auto inputs = given;
  drop_unless(inputs.prepend_embeds.defined(), inputs.prepend_mask, "prepend_mask",
              "there are no {}", at("prepend_embeds"));
  check(inputs);
  if (inputs.lens.defined()) inputs.mask = mask_of(inputs.lens, inputs.x.size(1));

  EmbeddedSequence sequence(embed(inputs), inputs);
  sequence.prepend(inputs.prepend_mask);
  sequence.add_memory_tokens(memory_tokens_);
  if (options_.emb_dropout > 0)
    sequence.x = at::dropout(sequence.x, options_.emb_dropout, is_training());
  ContinuousOutput output{sequence.run(*attn_layers_, inputs.layers), {}};

  auto features = output.embeddings;
  if (options_.average_pool_embed) {
    features = masked_mean(features, inputs.mask);
    const bool sums = options_.compat.meaning().continuous_pool_sums_features;
    output.embeddings = sums ? features.sum(-1) : features;
    // One number can be neither projected nor split.
    if (sums && !project_out_ && !given_out_ && !options_.probabilistic)
      features = output.embeddings;
  }
  if (inputs.project) project_out(features, output);
  return output;
}

at::Tensor ContinuousTransformerWrapperImpl::forward(const at::Tensor& x) {
  ContinuousInputs inputs;
  inputs.x = x;
  return forward(inputs).out;
}

std::shared_ptr<torch::nn::Module> ContinuousTransformerWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device,
                [&] { return std::make_shared<ContinuousTransformerWrapperImpl>(options_); });
}

}  // namespace x_transformers
