#include "x_transformers/models/vision.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/nn/input_dtype.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

namespace {

/// [b, c, height, width] -> [b, patches, patch * patch * c]
at::Tensor to_patches(const at::Tensor& img, int64_t patch) {
  const auto rows = img.size(2) / patch, columns = img.size(3) / patch;
  return img.unflatten(2, {rows, patch})
      .unflatten(4, {columns, patch})
      .permute({0, 2, 4, 3, 5, 1})  // (b c h p1 w p2) -> (b h w p1 p2 c)
      .flatten(3)
      .flatten(1, 2);
}

void check(const ViTransformerWrapperOptions& o) {
  require_size(o.image_size, "image_size");
  require_size(o.patch_size, "patch_size");
  require_size(o.channels, "channels");
  require_size(o.num_classes, "num_classes");
  require_count(o.num_register_tokens, "num_register_tokens");
  require_probability(o.emb_dropout, "emb_dropout");
  require_divides(o.patch_size, "patch_size", o.image_size, "image_size");
  const auto pixels = o.patch_size * o.patch_size;
  require(pixels <= kMaxSize / o.channels, at("patch_size"),
          "{} pixels of {} = {} are more than {} features", pixels, option("channels"), o.channels,
          kMaxSize);
}

}  // namespace

ViTransformerWrapperImpl::ViTransformerWrapperImpl(ViTransformerWrapperOptions options)
    : options_(std::move(options)) {
  options_.attn_layers.compat = options_.compat;
  const auto& o = options_;
  check(o);
  attn_layers_ = within("attn_layers", [&] { return AttentionLayers(o.attn_layers); });
  const auto dim = attn_layers_->options().dim;
  const auto patches = (o.image_size / o.patch_size) * (o.image_size / o.patch_size);
  const auto patch_dim = o.channels * o.patch_size * o.patch_size;
  pos_embedding_ = register_parameter("pos_embedding", at::randn({1, patches, dim}));
  if (o.num_register_tokens > 0) {
    register_tokens_ =
        register_parameter("register_tokens", at::randn({o.num_register_tokens, dim}));
  }
  auto embedding = register_module("patch_to_embedding", make_scope());
  patch_norm_ = embedding->register_module("0", std::make_shared<LayerNorm>(patch_dim));
  patch_projection_ = embedding->register_module("1", Linear(patch_dim, dim));
  embedding_norm_ = embedding->register_module("2", std::make_shared<LayerNorm>(dim));
  if (o.post_emb_norm)
    post_emb_norm_ = register_module("post_emb_norm", std::make_shared<LayerNorm>(dim));
  register_module("attn_layers", attn_layers_);
  if (o.num_classes) mlp_head_ = register_module("mlp_head", Linear(dim, *o.num_classes));
}

ViTransformerWrapperImpl::Output ViTransformerWrapperImpl::forward(const at::Tensor& img) {
  const auto patch = options_.patch_size;
  require(img.defined(), at("img"), "is needed");
  require_tensor(img, "img", TensorKind::floating,
                 {{"batch"}, {"channels", options_.channels}, {"height"}, {"width"}});
  require_dtype_of(*patch_projection_, img, "img");
  require(img.size(2) % patch == 0 && img.size(3) % patch == 0, at("img"),
          "expected sides that {} = {} divides, got {} x {}", option("patch_size"), patch,
          img.size(2), img.size(3));
  auto x = embedding_norm_->forward(
      patch_projection_->forward(patch_norm_->forward(to_patches(img, patch))));
  const auto patches = x.size(1);
  require(patches <= pos_embedding_.size(1), at("img"),
          "expected at most {} patches ({} = {}), got {} x {} pixels", pos_embedding_.size(1),
          option("image_size"), options_.image_size, img.size(2), img.size(3));
  x = x + pos_embedding_.narrow(1, 0, patches);
  if (post_emb_norm_) x = post_emb_norm_->forward(x);
  if (options_.emb_dropout > 0) x = at::dropout(x, options_.emb_dropout, is_training());
  if (register_tokens_.defined()) {
    x = at::cat({x, register_tokens_.unsqueeze(0).expand({x.size(0), -1, -1})}, 1);
  }
  AttentionLayersInputs inputs;
  inputs.x = x;
  Output output;
  output.embeddings = attn_layers_->forward(inputs).out.narrow(1, 0, patches);
  output.logits = output.embeddings.mean(1);
  if (mlp_head_) output.logits = mlp_head_->forward(output.logits);
  return output;
}

std::shared_ptr<torch::nn::Module> ViTransformerWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device,
                [&] { return std::make_shared<ViTransformerWrapperImpl>(options_); });
}

}  // namespace x_transformers
