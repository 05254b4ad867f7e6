// What wrappers share that predict each next token of their net's.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"

namespace x_transformers {

/// A model whose module holds the net of another model, and whose loss of x [batch, seq + 1] is of
/// each token but the first. `Holder` is the module's holder, with net() and TokenWriter.
template <class Holder>
class NextTokenModel : public HolderModel<Holder>, public TokenPredictor {
 public:
  NextTokenModel(Holder holder, std::shared_ptr<Model> net)
      : HolderModel<Holder>(std::move(holder)), net_(std::move(net)) {}

  /// The net's, with the token more that the loss of the last one needs.
  SampleCall sample_call(std::optional<int64_t> seq) override {
    auto call = net_->sample_call(seq);
    call.inputs["x"] = at::zeros({1, call.tokens + 1}, at::kLong);
    return call;
  }

  at::Tensor loss(const TensorMap& batch) override {
    if (batch.size() > 1 || !batch.contains("x")) return Model::loss(batch);
    auto result = this->holder_->forward(batch.at("x"));
    if constexpr (requires { result.loss; }) {
      return result.loss;
    } else {
      return result;
    }
  }

  SeeingNet net_that_sees_targets(const std::set<std::string>& /*names*/) override {
    return seeing_net("net", *this->holder_->net());
  }

  LossUnit loss_unit() const override { return nats_per_token(); }

  /// Of sequences of any length.
  std::optional<TokenTask> token_task() override {
    auto& net = *this->holder_->net();
    within("net", [&] { net.require_language_model(); });
    TokenTask task;
    task.num_tokens = net.traits().num_tokens;
    task.counted_by = OptionPath("net") / "num_tokens";
    return task;
  }

  at::Tensor next_token_logits(const TensorMap& batch) override {
    const auto& x = batch.at("x");
    TransformerInputs inputs;
    const auto tokens = x.narrow(1, 0, x.size(1) - 1);
    inputs.x = tokens.masked_fill(tokens < 0, 0);  // what is no token has no embedding
    const auto output = this->holder_->net()->forward(inputs);
    require(output.logits.size() == 1, at("net"), "has {} output heads, expected one",
            output.logits.size());
    return output.logits[0];
  }
  std::shared_ptr<TokenModel> predicting_net() override { return this->holder_->net(); }

  TokenWriter* writer() override { return this->holder_.get(); }
  std::shared_ptr<TokenModel> token_model() override { return this->holder_->net(); }

 protected:
  std::shared_ptr<Model> net_;
};

}  // namespace x_transformers
