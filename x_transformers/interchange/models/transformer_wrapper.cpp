#include "x_transformers/interchange/models/transformer_wrapper.h"

#include <ATen/ATen.h>

#include <utility>

#include "x_transformers/core/warning.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/labelled_loss.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/stack_sample.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/interchange/transformer_returns.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

class TransformerWrapperModel : public HolderModel<TransformerWrapper> {
 public:
  TransformerWrapperModel(std::string type, TransformerWrapper wrapper)
      : HolderModel(std::move(wrapper)), type_(std::move(type)) {}

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward(type_, method);
    TransformerCall call(arguments, *holder_);
    auto& inputs = call.inputs;
    const auto returns = take_returns(arguments);
    set_wants(inputs, returns);
    inputs.logits = !returns.embeddings && !returns.embeddings_and_intermediates;
    const bool has_logits = inputs.logits && !holder_->options().return_only_embed;
    if (!inputs.to_logits_kwargs.empty() && !has_logits)
      warn_unused(at("to_logits_kwargs"), "change nothing, no logits are computed");
    auto output = holder_->forward(inputs);
    if (call.whole) output.init_embed = holder_->initial_embeds(*call.whole);
    return returned(holder_, output, returns);
  }

  bool forward_is_loss() const override { return false; }
  /// Of labels [batch, seq] of the tokens, -100 where there is none, below the number of logits.
  LossInputs loss_inputs(const std::set<std::string>&) override {
    const auto classes = holder_->predicted_tokens();
    auto inputs = answered_inputs({-1}, classes ? std::optional(classes->count) : std::nullopt,
                                  classes ? classes->option : "");
    // Pooled, a sequence has fewer answers than tokens.
    for (auto& answer : inputs.tensors) answer.sizes.reset();
    if (holder_->traits().embeds_ids) inputs.tensors.push_back(token_input(*holder_, "x"));
    return inputs;
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    const auto& o = holder_->options();
    SampleCall call;
    call.tokens = sample_tokens(seq, o.max_seq_len);
    call.inputs["x"] = at::zeros({1, call.tokens}, at::kLong);
    add_stack_sample(*holder_->attn_layers(), call);
    for (const auto& [name, count] : o.embed_num_tokens)
      call.inputs["embed_ids." + name] = at::zeros({1, call.tokens}, at::kLong);
    // As often as it may come to in training.
    if (o.recycling) call.kwargs = Json{{"recycle_steps", o.train_max_recycle_steps}}.dump();
    return call;
  }

  std::shared_ptr<TokenModel> token_model() override { return holder_.ptr(); }

 private:
  std::string type_;
};

}  // namespace

std::shared_ptr<Model> transformer_wrapper_model(const std::string& type,
                                                 TransformerWrapper wrapper) {
  return std::make_shared<TransformerWrapperModel>(type, std::move(wrapper));
}

void register_transformer_wrapper(ModelTypes& types) {
  types
      .add({"TransformerWrapper", TypeGroup::models,
            "tokens in, logits out: embeddings, a stack of layers, a head"},
           model_type<TransformerWrapperOptions>([](const TransformerWrapperOptions& options) {
             return transformer_wrapper_model("TransformerWrapper", TransformerWrapper(options));
           }))
      .is_net = true;
}

}  // namespace x_transformers
