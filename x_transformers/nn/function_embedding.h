// Token embeddings from a function or a module of the user's, for models that are built in C++:
//
//   TransformerWrapper model(options, as_embedding([](const at::Tensor& tokens) { ... }));
#pragma once

#include <torch/nn/pimpl.h>

#include <functional>
#include <memory>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/nn/embeddings.h"

namespace x_transformers {

/// tokens [b, n] int64 -> [b, n, dim]. What a token becomes must depend on the token alone.
using EmbedFunction = std::function<at::Tensor(const at::Tensor& tokens)>;

/// Embeds by a function. The parameters of `module`, if it uses one, are trained and saved with the
/// model's, below token_emb.emb.
class FunctionEmbedding : public BaseEmbedding {
 public:
  explicit FunctionEmbedding(EmbedFunction embed,
                             std::shared_ptr<torch::nn::Module> module = nullptr)
      : embed_(std::move(embed)) {
    require(embed_ != nullptr, at("token_emb"), "is no function");
    if (module) register_module("emb", std::move(module));
  }
  at::Tensor embed(const at::Tensor& tokens, const Positions&) override { return embed_(tokens); }
  bool reads_positions() const override { return false; }

 private:
  EmbedFunction embed_;
};

/// An embedding by a function without parameters.
inline std::shared_ptr<BaseEmbedding> as_embedding(EmbedFunction embed) {
  return std::make_shared<FunctionEmbedding>(std::move(embed));
}

/// An embedding by the forward of a module, such as torch::nn::Embedding.
template <class Net>
std::shared_ptr<BaseEmbedding> as_embedding(const torch::nn::ModuleHolder<Net>& module) {
  const auto net = module.ptr();
  return std::make_shared<FunctionEmbedding>(
      [net](const at::Tensor& tokens) { return net->forward(tokens); }, net);
}

}  // namespace x_transformers
