#include "x_transformers/wrappers/self_critic.h"

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {

SelfCriticImpl::SelfCriticImpl(std::shared_ptr<TokenModel> net) : net_(std::move(net)) {
  require(net_ != nullptr, at("net"), "is needed");
  within("net", [&] { net_->require_token_embeddings(); });
  const auto dim = net_->traits().dim;
  require(dim > 0, at("net"), "does not say how many features its embeddings have");
  register_module("net", net_);
  to_logits_ = register_module("to_logits", Linear(dim, 1));
}

at::Tensor SelfCriticImpl::forward(const at::Tensor& x, TransformerInputs inputs) {
  inputs.x = x;
  inputs.logits = false;
  return to_logits_->forward(net_->forward(inputs).embeddings);
}

std::shared_ptr<torch::nn::Module> SelfCriticImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device,
                [&] { return std::make_shared<SelfCriticImpl>(cloned_as(net_, device)); });
}

}  // namespace x_transformers
