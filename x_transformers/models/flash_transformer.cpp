#include "x_transformers/models/flash_transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/probe.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/models/flash_session.h"
#include "x_transformers/models/length_session.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/nn/flash.h"
#include "x_transformers/nn/gau.h"

namespace x_transformers {
namespace {

/// Features of queries and keys that are rotated at most (GPT-J's partial rotation).
constexpr int64_t kMaxRotated = 32;

bool has_gau(const FLASHTransformerOptions& o) { return o.layer == "gau"; }

void warn_of_unused(const FLASHTransformerOptions& o) {
  const FLASHTransformerOptions usual;
  UnusedOptions unused("layers of gau have no groups", has_gau(o));
  unused.add("group_size", o.group_size != usual.group_size);
  unused.add("reduce_group_non_causal_attn", !o.reduce_group_non_causal_attn);
  warn_unused(unused.notices());
}

void validate(const FLASHTransformerOptions& o) {
  require_size(o.dim, "dim");
  expect(o.dim % 2 == 0, at("dim"), o.dim, "an even number, half of it for sines");
  require_size(o.num_tokens, "num_tokens");
  require_modules(o.depth, "depth");
  expect(o.norm_type == "scalenorm" || o.norm_type == "layernorm", at("norm_type"), o.norm_type,
         "scalenorm or layernorm");
  expect(o.layer == "flash" || has_gau(o), at("layer"), o.layer, "flash or gau");
  require(has_gau(o) || o.normalise == "length", at("normalise"), "needs {} = gau",
          option("layer"));
  warn_of_unused(o);
}

/// What the layers call by names of their own.
OptionPath spelled_by_model(const OptionPath& path) {
  if (path == OptionPath("dropout")) return "attn_dropout";
  if (path == OptionPath("norm_klass")) return "norm_type";
  return path;
}

std::string norm_klass(const FLASHTransformerOptions& o) {
  return o.norm_type == "scalenorm" ? "ScaleNorm" : "LayerNorm";
}

}  // namespace

FLASHTransformerImpl::FLASHTransformerImpl(FLASHTransformerOptions options)
    : options_(std::move(options)) {
  validate(options_);
  const auto dim = options_.dim;
  token_emb_ = register_module("token_emb", torch::nn::Embedding(options_.num_tokens, dim));
  abs_pos_emb_ = register_module("abs_pos_emb", std::make_shared<FLASHScaledSinuEmbedding>(
                                                    FLASHScaledSinuEmbeddingOptions{dim}));
  spelled(spelled_by(spelled_by_model), [&] { build_layers(); });
  const auto to_logits = register_module("to_logits", make_scope());
  final_norm_ = to_logits->register_module("0", std::make_shared<BiasedLayerNorm>(DimOptions{dim}));
  to_logits_ = to_logits->register_module("1", Linear(dim, options_.num_tokens));
}

void FLASHTransformerImpl::build_layers() {
  require_size(options_.query_key_dim, "query_key_dim");
  std::shared_ptr<FLASHRotaryEmbedding> rotary;
  if (!has_gau(options_)) {
    FLASHRotaryEmbeddingOptions rotation;
    rotation.dim = std::min(kMaxRotated, options_.query_key_dim);
    rotary = std::make_shared<FLASHRotaryEmbedding>(rotation);
  }
  const auto scope = register_module("layers", std::make_shared<LayerList>());
  for (int64_t i = 0; i < options_.depth; ++i)
    layers_.push_back(scope->register_module(std::to_string(i), make_layer(rotary)));
}

std::shared_ptr<Block> FLASHTransformerImpl::make_layer(
    const std::shared_ptr<FLASHRotaryEmbedding>& rotary) const {
  const auto& o = options_;
  if (has_gau(o)) {
    GAUOptions gau;
    gau.dim = o.dim;
    gau.query_key_dim = o.query_key_dim;
    gau.expansion_factor = o.expansion_factor;
    gau.causal = o.causal;
    gau.dropout = o.attn_dropout;
    gau.laplace_attn_fn = o.laplace_attn_fn;
    gau.norm_klass = norm_klass(o);
    gau.normalise = o.normalise;
    gau.compat = o.compat;
    return std::make_shared<GAU>(gau);
  }
  FLASHOptions flash;
  flash.dim = o.dim;
  flash.group_size = o.group_size;
  flash.query_key_dim = o.query_key_dim;
  flash.expansion_factor = o.expansion_factor;
  flash.causal = o.causal;
  flash.dropout = o.attn_dropout;
  flash.norm_klass = norm_klass(o);
  flash.shift_tokens = o.shift_tokens;
  flash.laplace_attn_fn = o.laplace_attn_fn;
  flash.reduce_group_non_causal_attn = o.reduce_group_non_causal_attn;
  flash.compat = o.compat;
  return std::make_shared<FLASH>(flash, rotary);
}

TokenModelTraits FLASHTransformerImpl::traits() const {
  TokenModelTraits traits;
  traits.num_tokens = options_.num_tokens;
  traits.dim = traits.emb_dim = options_.dim;
  traits.is_causal = options_.causal;
  return traits;
}

std::optional<TokenLimit> FLASHTransformerImpl::embedded_tokens() const {
  return TokenLimit{options_.num_tokens, "num_tokens"};
}

Text FLASHTransformerImpl::cache_unsupported() const {
  return respelled(layers_.front()->cache_unsupported(), spelled_by(spelled_by_model));
}

TransformerCache FLASHTransformerImpl::make_cache(int64_t capacity) const {
  const auto reason = cache_unsupported();
  require(reason.empty(), at("cache"), "{}", reason);
  TransformerCache cache;
  for (const auto& layer : layers_)
    cache.layers.layers.push_back(layer->make_state({.capacity = capacity}));
  return cache;
}

std::unique_ptr<DecodingSession> FLASHTransformerImpl::start_session(SessionOptions options) {
  const FLASHTransformer self(std::dynamic_pointer_cast<FLASHTransformerImpl>(shared_from_this()));
  const auto start = [&self](SessionOptions own) {
    return std::make_unique<FLASHSession>(self, std::move(own));
  };
  // Groups count from a sequence's first token.
  return make_session(start, /*sees_padding=*/true, options);
}

void FLASHTransformerImpl::check(const TransformerInputs& inputs) const {
  const auto refuse = [](const char* name) {
    throw InputError(Notice{at(name), "FLASHTransformer has no place for it"});
  };
  const auto look = [&](const char* name, const at::Tensor&, const InputField&) {
    if (std::string_view(name) != "mask") refuse(name);
  };
  each_input(inputs, look);
  each_input(inputs.layers, look);
  if (inputs.recycle_steps) refuse("recycle_steps");
  if (inputs.layers.layers_execute_order) refuse("layers_execute_order");
  require(!inputs.keep_maps, "FLASHTransformer has no attention maps");
  require_tensor(inputs.x, "x", TensorKind::integer, {{"batch"}, {"seq"}});
  require(inputs.x.defined() && inputs.x.size(1) > 0, at("x"), "expected at least one token");
  require_in_range_on_cpu(inputs.x, "x", token_range(*this));
  const auto layers = inputs.cache ? inputs.cache->layers.layers.size() : layers_.size();
  require(layers == layers_.size(), at("cache"), "expected {}, got {}",
          how_many(static_cast<int64_t>(layers_.size()), "layer"), layers);
}

void FLASHTransformerImpl::show_ending(const at::Tensor& x) const {
  auto* probe = current_probe();  // the head has the final norm
  if (probe != nullptr && probe->wants_endings()) probe->see(*this, probed::kEnding, x);
}

at::Tensor FLASHTransformerImpl::run_layers(size_t first, size_t end, at::Tensor x,
                                            const TransformerInputs& inputs,
                                            std::vector<at::Tensor>* hiddens) {
  std::vector<int64_t> layers(end - first);
  std::iota(layers.begin(), layers.end(), static_cast<int64_t>(first));
  come_to(layers);
  for (size_t i = first; i < end; ++i) {
    show(*layers_[i], probed::kGatedAttention, x);
    if (hiddens != nullptr) hiddens->push_back(x);
    BranchInputs branch;
    branch.x = x;
    branch.mask = inputs.mask;
    if (inputs.cache) branch.state = inputs.cache->layers.layers[i].get();
    x = layers_[i]->run(branch).out;
    show(*layers_[i], probed::kStream, x);
    show_ending(x);
  }
  return x;
}

TransformerOutput FLASHTransformerImpl::forward(const TransformerInputs& inputs) {
  check(inputs);
  const auto first = inputs.cache ? inputs.cache->layers.length : 0;
  TransformerOutput output;
  output.init_embed = token_emb_->forward(as_ids(inputs.x, "x"));
  auto x = output.init_embed + abs_pos_emb_->forward(inputs.x.size(1), first);
  show(*this, probed::kStack, x);
  show_ending(x);
  auto* hiddens = inputs.keep_hiddens ? &output.layers.hiddens : nullptr;
  const bool is_recomputed =
      recomputed_layers_ > 0 && is_training() && at::GradMode::is_enabled() && !inputs.cache;
  const auto at_once = is_recomputed ? static_cast<size_t>(recomputed_layers_) : size_t{1};
  for (size_t begin = 0; begin < layers_.size(); begin += at_once) {
    const auto end = std::min(begin + at_once, layers_.size());
    std::optional<Recomputing> recomputing;
    if (is_recomputed) {
      const auto self = std::dynamic_pointer_cast<FLASHTransformerImpl>(shared_from_this());
      const auto again = [self, begin, end, x, inputs] {
        self->run_layers(begin, end, x, inputs, nullptr);
      };
      recomputing.emplace(again, x.device());
    }
    x = run_layers(begin, end, x, inputs, hiddens);
  }
  if (inputs.cache) inputs.cache->layers.length += inputs.x.size(1);
  output.embeddings = output.last_layer_hiddens = x;
  if (inputs.logits) output.logits = {head(x)};
  return output;
}

Text FLASHTransformerImpl::capture_unsupported() const {
  if (recomputed_layers_ == 0 || layers_.empty()) return {};
  return respelled(recomputed_capture_unsupported(layers_.front()->drawn_option()),
                   spelled_by(spelled_by_model));
}

at::Tensor FLASHTransformerImpl::forward(const at::Tensor& tokens, const at::Tensor& mask) {
  TransformerInputs inputs;
  inputs.x = tokens;
  inputs.mask = mask;
  return forward(inputs).logits[0];
}

at::Tensor FLASHTransformerImpl::head(const at::Tensor& embeddings) {
  return to_logits_->forward(final_norm_->forward(embeddings));
}

std::shared_ptr<torch::nn::Module> FLASHTransformerImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    auto copy = std::make_shared<FLASHTransformerImpl>(options_);
    copy->recomputed_layers_ = recomputed_layers_;
    return copy;
  });
}

}  // namespace x_transformers
