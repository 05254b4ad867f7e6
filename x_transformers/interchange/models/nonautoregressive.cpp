// NonAutoregressiveWrapper and SelfCritic in the interchange.
#include "x_transformers/wrappers/nonautoregressive.h"

#include <ATen/ATen.h>

#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

/// The arguments of Python's constructor.
struct NonAutoregressiveArguments : NonAutoregressiveWrapperOptions {
  ModuleSpec net = {"TransformerWrapper"};
  std::optional<ModuleSpec> token_critic = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("net", net, "the model, such as a TransformerWrapper");
    NonAutoregressiveWrapperOptions::fields(v);
    v("token_critic", token_critic,
      "a model that judges which tokens are wrong, such as a TransformerWrapper with logits_dim 1",
      "arXiv:2209.04439");
  }
};

struct SelfCriticArguments {
  ModuleSpec net = {"TransformerWrapper"};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("net", net, "the model that judges, such as a TransformerWrapper");
  }
};

/// The critic of `config`.
CallableModule build_critic(const Json& config, const ModelPlace& place) {
  const auto below = place.below("token_critic");
  const auto& given = config.at("token_critic");
  const auto model = build_part(given, below);
  if (const auto net = is_net(given) ? model->token_model() : nullptr) {
    within(below.where, [&] { net->require_next_token_logits(); });
    const auto scores = net->predicted_tokens();
    if (scores)
      expect(scores->count == 1, at(below.where / "logits_dim"), scores->count,
             "1, a score for each token");
  }
  return {model->module().shared_from_this(),
          [model](const at::Tensor& x, const CallableModule::NamedTensors&) {
            const auto results = call_forward(*model, x);
            require(!results.empty(), at("token_critic"), "returns nothing");
            return CallableModule::Result{results[0].second, {}};
          }};
}

Value call_forward(NonAutoregressiveWrapperImpl& model, Arguments& arguments) {
  NonAutoregressiveInputs inputs;
  const auto& net = *model.net();
  inputs.x = as_tokens(arguments.required_tensor("x"), "x", arguments, net);
  inputs.only_train_generator = arguments.flag("only_train_generator");
  inputs.only_train_critic = arguments.flag("only_train_critic");
  inputs.generator_sample_temperature = arguments.number("generator_sample_temperature");
  inputs.net = take_transformer_inputs(arguments);
  if (arguments.source() == ArgumentSource::outside) {
    require_in_range(inputs.x, "x", token_range(net));
    require_in_range(inputs.x, "x", logits_range(net));
    require_in_range(inputs.net, net);
  }
  const auto losses = model.forward(inputs);
  Value value;
  value.add("loss", losses.loss);
  value.add("generator_loss", losses.generator_loss);
  value.add("critic_loss", losses.critic_loss);
  return value;
}

Value call_generate(NonAutoregressiveWrapperImpl& model, Arguments& arguments) {
  NonAutoregressiveGeneration generation;
  generation.batch_size = arguments.integer("batch_size");
  generation.start_temperature =
      arguments.number("start_temperature").value_or(generation.start_temperature);
  if (arguments.is_null("filter_thres")) generation.filter_thres = std::nullopt;
  if (const auto given = arguments.number("filter_thres")) generation.filter_thres = given;
  generation.noise_level_scale =
      arguments.number("noise_level_scale").value_or(generation.noise_level_scale);
  generation.seed = arguments.integer("seed");
  generation.prompts = as_tokens(arguments.tensor("prompts"), "prompts", arguments, *model.net());
  require_in_range(generation.prompts, "prompts", token_range(*model.net()));
  const auto inputs = take_transformer_inputs(arguments);
  require_in_range(inputs, *model.net());
  return model.generate(generation, inputs);
}

class NonAutoregressiveModel : public HolderModel<NonAutoregressiveWrapper> {
 public:
  NonAutoregressiveModel(std::shared_ptr<Model> net, const NonAutoregressiveWrapperOptions& options,
                         CallableModule critic)
      : HolderModel(NonAutoregressiveWrapper(net->token_model(), options, std::move(critic))),
        net_(std::move(net)) {}

  Value call(const std::string& method, Arguments& arguments) override {
    if (method == "generate") return call_generate(*holder_, arguments);
    require_forward("NonAutoregressiveWrapper", method);
    return call_forward(*holder_, arguments);
  }

  SampleCall sample_call(std::optional<int64_t>) override {
    return net_->sample_call(holder_->sequence_length());
  }

  at::Tensor loss(const TensorMap& batch) override {
    if (batch.size() > 1 || !batch.count("x")) return Model::loss(batch);
    return holder_->forward(batch.at("x")).loss;
  }

  LossUnit loss_unit() const override {
    const auto& o = holder_->options();
    return {std::string("nats per masked token") +
            (o.use_simple_mdlm_loss_weight ? ", weighted" : "") +
            (holder_->has_critic() ? " + critic" : "")};
  }

  std::optional<TokenTask> token_task() override {
    within("net", [&] { holder_->net()->require_language_model(); });
    const auto traits = holder_->net()->traits();
    TokenTask task;
    task.num_tokens = traits.num_tokens;
    task.counted_by = OptionPath("net") / "num_tokens";
    task.longest = traits.max_seq_len;
    task.limited_by = text("{} = {}", OptionPath("net") / "max_seq_len", traits.max_seq_len);
    task.is_whole = true;
    task.reserved = holder_->options().mask_id;
    task.reserved_by = "mask_id";
    return task;
  }

  SequenceWriter* sequence_writer() override { return holder_.get(); }
  std::shared_ptr<TokenModel> token_model() override { return holder_->net(); }

 private:
  std::shared_ptr<Model> net_;
};

class SelfCriticModel : public HolderModel<SelfCritic> {
 public:
  explicit SelfCriticModel(std::shared_ptr<Model> net)
      : HolderModel(SelfCritic(net->token_model())), net_(std::move(net)) {}

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("SelfCritic", method);
    const auto x = as_tokens(arguments.required_tensor("x"), "x", arguments, *holder_->net());
    if (arguments.source() == ArgumentSource::outside)
      require_in_range(x, "x", token_range(*holder_->net()));
    return holder_->forward(x);
  }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>&) override {
    return {.unsupported =
                "a SelfCritic has no loss of its own; a NonAutoregressiveWrapper with "
                "self_token_critic "
                "or token_critic trains one"};
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    auto call = net_->sample_call(seq);
    return {{{"x", call.inputs.at("x")}}, "{}", call.tokens};
  }

 private:
  std::shared_ptr<Model> net_;
};

}  // namespace

void register_nonautoregressive(ModelTypes& types) {
  types.add({"NonAutoregressiveWrapper", TypeGroup::objectives, "masked tokens, many at a time"},
            model_type<NonAutoregressiveArguments>([](const NonAutoregressiveArguments& options,
                                                      const Json& config, const ModelPlace& place) {
              const auto net = build_net(config, "net", place);
              auto critic = options.token_critic ? build_critic(config, place) : CallableModule();
              return within(place.where, [&] {
                return std::make_shared<NonAutoregressiveModel>(net, options, std::move(critic));
              });
            }));
  types.add({"SelfCritic", TypeGroup::objectives,
             "says of each filled-in token whether it is a wrong one"},
            model_type<SelfCriticArguments>([](const SelfCriticArguments&, const Json& config,
                                               const ModelPlace& place) {
              const auto net = build_net(config, "net", place);
              return within(place.where, [&] { return std::make_shared<SelfCriticModel>(net); });
            }));
}

}  // namespace x_transformers
