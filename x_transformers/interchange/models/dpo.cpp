// DPO in the interchange.
#include "x_transformers/wrappers/dpo.h"

#include <ATen/ATen.h>

#include <set>
#include <string>

#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

/// The arguments of Python's constructor.
struct DPOArguments : DPOOptions {
  ModuleSpec model = {"TransformerWrapper"};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("model", model, "the model to be trained, such as a TransformerWrapper");
    DPOOptions::fields(v);
  }
};

Value call_dpo(DPOImpl& model, Arguments& arguments) {
  const auto& net = *model.policy_model();
  DPOInputs inputs;
  const auto take_tokens = [&](const char* name) {
    auto tokens = as_tokens(arguments.required_tensor(name), name, arguments, net);
    if (arguments.source() == ArgumentSource::outside) {
      require_in_range(tokens, name, token_range(net));
      require_in_range(tokens, name, logits_range(net));
    }
    return tokens;
  };
  inputs.preferred_seq = take_tokens("preferred_seq");
  inputs.unpreferred_seq = take_tokens("unpreferred_seq");
  inputs.prompt_mask = arguments.required_mask("prompt_mask");
  inputs.preferred_seq_mask = arguments.mask("preferred_seq_mask");
  inputs.unpreferred_seq_mask = arguments.mask("unpreferred_seq_mask");
  return model.forward(inputs);
}

class DPOModel : public HolderModel<DPO> {
 public:
  DPOModel(std::shared_ptr<Model> policy, const DPOOptions& options)
      : HolderModel(DPO(policy->token_model(), options)), policy_(std::move(policy)) {}

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("DPO", method);
    return call_dpo(*holder_, arguments);
  }
  std::string first_argument() const override { return "preferred_seq"; }

  LossUnit loss_unit() const override { return {"nats per pair of answers"}; }

  SeeingNet net_that_sees_targets(const std::set<std::string>& /*names*/) override {
    return seeing_net("model", *holder_->policy_model());
  }

  LossInputs loss_inputs(const std::set<std::string>&) override {
    LossInputs inputs;
    for (const char* name : {"preferred_seq", "unpreferred_seq"}) {
      auto seq =
          respelled(token_input(*holder_->policy_model(), name, /*are_targets=*/true, /*unseen=*/1),
                    below("model"));
      seq.shortest = 2;
      inputs.tensors.push_back(std::move(seq));
      inputs.tensors.push_back(
          {.name = std::string(name) + "_mask", .kind = LossInputKind::mask, .is_needed = false});
    }
    LossInput prompt{.name = "prompt_mask", .kind = LossInputKind::mask};
    prompt.sizes = std::vector<int64_t>{-1};
    prompt.leaves_some_of = {"preferred_seq", "unpreferred_seq"};
    inputs.tensors.push_back(std::move(prompt));
    return inputs;
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    auto call = policy_->sample_call(seq);
    const auto tokens = at::zeros({1, call.tokens + 1}, at::kLong);
    call.inputs = {{"preferred_seq", tokens},
                   {"unpreferred_seq", tokens},
                   {"prompt_mask", at::zeros({1, call.tokens + 1}, at::kBool)}};
    call.kwargs = "{}";
    return call;
  }

  TokenWriter* writer() override { return holder_.get(); }
  std::shared_ptr<TokenModel> token_model() override { return holder_->policy_model(); }

 private:
  std::shared_ptr<Model> policy_;
};

}  // namespace

void register_dpo(ModelTypes& types) {
  types.add({"DPO", TypeGroup::objectives, "the preferred one of two answers"},
            model_type<DPOArguments>(
                [](const DPOArguments& options, const Json& config, const ModelPlace& place) {
                  const auto policy = build_net(config, "model", place);
                  return within(place.where,
                                [&] { return std::make_shared<DPOModel>(policy, options); });
                }));
}

}  // namespace x_transformers
