// AutoregressiveWrapper in the interchange.
#include "x_transformers/wrappers/autoregressive.h"

#include <ATen/ATen.h>

#include <set>
#include <string>

#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/generation_arguments.h"
#include "x_transformers/interchange/models/next_token_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/option_arguments.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/stack_returns.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/interchange/transformer_returns.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

/// The arguments of Python's constructor.
struct AutoregressiveArguments : AutoregressiveWrapperOptions {
  ModuleSpec net = {"TransformerWrapper"};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("net", net, "the model, such as a TransformerWrapper");
    AutoregressiveWrapperOptions::fields(v);
  }
};

Value call_beam_search(AutoregressiveWrapperImpl& model, Arguments& arguments) {
  auto inputs = take_generation_inputs(arguments, "prompts", model);
  const auto options = take_options<BeamSearchOptions>(arguments);
  inputs.net = take_transformer_inputs(arguments);
  take_without_effect_in_generation(arguments);
  require_in_range(inputs.net, *model.net());
  const auto result = model.beam_search(inputs, options);
  if (!options.return_beams_and_scores) return result.best();
  return Value::list(std::vector<at::Tensor>{result.beams, result.scores});
}

Value call_generate(AutoregressiveWrapperImpl& model, Arguments& arguments) {
  auto inputs = take_generation_inputs(arguments, "prompts", model);
  const auto options = take_options<GenerateOptions>(arguments);
  inputs.amateurs = take_amateurs(arguments, model);
  inputs.net = take_transformer_inputs(arguments);
  require_in_range(inputs.net, *model.net());
  take_without_effect_in_generation(arguments);
  return model.generate(inputs, options);
}

Value call_forward(AutoregressiveWrapperImpl& model, Arguments& arguments) {
  auto inputs = take_transformer_inputs(arguments);
  const auto x = as_tokens(arguments.required_tensor("x"), "x", arguments, *model.net());
  if (arguments.source() == ArgumentSource::outside) {
    require_tokens_of_loss(x, "x", model);
    require_in_range(inputs, *model.net());
  }
  Returns returns{};
  returns.attn_z_loss = model.options().add_attn_z_loss;
  inputs.attn_z_loss_weight =
      arguments.number("attn_z_loss_weight").value_or(inputs.attn_z_loss_weight);
  returns.attn_z_loss_weight = inputs.attn_z_loss_weight;
  returns.logit_entropies = arguments.flag("return_logit_entropies");
  returns.intermediates = true;
  const bool return_outputs = arguments.flag("return_outputs");
  returns.mems = arguments.flag("return_mems") && return_outputs;
  take_without_effect(arguments, {"return_attn", "input_not_include_cache"});
  arguments.absent("cache", "the loss of a sequence takes no cache");
  inputs.keep_hiddens = inputs.attn_pool = inputs.keep_caches = return_outputs;
  const auto output = model.forward(x, inputs);
  if (!return_outputs) return output.loss;
  auto cache = stack_intermediates(output.net.layers);
  const auto mems =
      returns.mems ? Value::list(next_mems(output.net, model.net()->traits().kept_mems)) : Value();
  add_late_fields(cache, output.net, returns, mems, /*returns_pooled=*/false);
  return Value::list(
      std::vector<Value>{output.loss, Value::list(std::vector<Value>{output.logits, cache})});
}

class AutoregressiveModel : public NextTokenModel<AutoregressiveWrapper> {
 public:
  AutoregressiveModel(const std::shared_ptr<Model>& net,
                      const AutoregressiveWrapperOptions& options)
      : NextTokenModel(AutoregressiveWrapper(net->token_model(), options), net) {}

  Value call(const std::string& method, Arguments& arguments) override {
    if (method == "beam_search") return call_beam_search(*holder_, arguments);
    if (method == "generate") return call_generate(*holder_, arguments);
    require_forward("AutoregressiveWrapper", method);
    return call_forward(*holder_, arguments);
  }

  /// The net's, with one token more where the loss of the last needs one that the net does not see.
  SampleCall sample_call(std::optional<int64_t> seq) override {
    auto call = net_->sample_call(seq);
    Arguments arguments(call.inputs, Json::parse(call.kwargs), ArgumentSource::checked, compat());
    if (holder_->leaves_out_last(take_transformer_inputs(arguments)))
      call.inputs["x"] = at::zeros({1, call.tokens + 1}, at::kLong);
    return call;
  }

  /// Of labels or a target the net's, as if it stood alone.
  at::Tensor loss(const TensorMap& batch) override {
    if (is_of_net(batch)) return net_->loss(batch);
    const bool is_of_tokens = batch.size() == 1 && batch.contains("x");
    return is_of_tokens ? holder_->loss(batch.at("x")) : NextTokenModel::loss(batch);
  }
  LossInputs loss_inputs(const std::set<std::string>& names) override {
    return is_of_net(names) ? respelled(net_->loss_inputs(names), below("net"))
                            : NextTokenModel::loss_inputs(names);
  }

  LossUnit loss_unit() const override {
    const auto& o = holder_->options();
    auto unit = nats_per_token();
    const auto add = [&](const char* other) {
      unit.name += other;
      unit.is_code_length = false;
    };
    if (o.add_attn_z_loss) add(" + z-loss of attention");
    if (holder_->net()->traits().predicts_next_embed && o.next_embed_loss_weight > 0)
      add(" + error of the next embedding");
    return unit;
  }

  SeeingNet net_that_sees_targets(const std::set<std::string>& names) override {
    return is_of_net(names) ? SeeingNet() : NextTokenModel::net_that_sees_targets(names);
  }

  void set_loss_chunk(int64_t rows) override { holder_->set_loss_chunk(rows); }

  Text documents_unsupported() override { return holder_->documents_unsupported(); }

  std::optional<TokenTask> token_task() override {
    auto task = NextTokenModel::token_task();
    const auto traits = holder_->net()->traits();
    task->ignored = holder_->options().ignore_index;
    const auto max_seq_len = OptionPath("net") / "max_seq_len";
    task->limited_by = text("{} = 0", max_seq_len);
    if (traits.max_seq_len == 0) return task;
    // A sequence comes with the token after it, which the model sees only where its loss cannot
    // spare it.
    const bool sees_one_more = traits.has_abs_pos_emb && !holder_->leaves_out_last();
    task->longest = traits.max_seq_len - (sees_one_more ? 1 : 0);
    task->limited_by = text("{} = {}{}", max_seq_len, traits.max_seq_len,
                            sees_one_more ? " less the token that only the loss needs" : "");
    return task;
  }

 private:
  /// Whether tensors of these names, the keys of a batch, have the net's own loss.
  template <class Names>
  static bool is_of_net(const Names& names) {
    return names.contains("labels") || names.contains("target");
  }
};

}  // namespace

void register_autoregressive(ModelTypes& types) {
  auto& type = types.add(
      {"AutoregressiveWrapper", TypeGroup::objectives, "the next token, token by token"},
      model_type<AutoregressiveArguments>(
          [](const AutoregressiveArguments& options, const Json& config, const ModelPlace& place) {
            const auto net = build_net(config, "net", place);
            return within(place.where,
                          [&] { return std::make_shared<AutoregressiveModel>(net, options); });
          }));
  type.wrap_net = [](std::shared_ptr<Model> net) {
    return std::make_shared<AutoregressiveModel>(std::move(net), AutoregressiveWrapperOptions{});
  };
}

}  // namespace x_transformers
