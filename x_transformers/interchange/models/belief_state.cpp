// BeliefStateWrapper in the interchange.
#include "x_transformers/wrappers/belief_state.h"

#include <ATen/ATen.h>

#include <set>
#include <string>

#include "x_transformers/interchange/generation_arguments.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/option_arguments.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

/// The arguments of Python's constructor.
struct BeliefStateArguments : BeliefStateWrapperOptions {
  ModuleSpec forward_decoder = {"TransformerWrapper"};
  std::optional<ModuleSpec> backward_decoder = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("forward_decoder", forward_decoder, "reads prefixes: a TransformerWrapper",
               "arXiv:2410.23506");
    v("backward_decoder", backward_decoder,
      "reads suffixes from their end; default: the forward_decoder, which tells them by the suffix "
      "token");
    BeliefStateWrapperOptions::fields(v);
  }
};

/// A function of pairs, as a module.
PairWeights take_pair_weights(Arguments& arguments) {
  constexpr const char* kName = "loss_weight_by_fb_indices";
  const auto* given = arguments.json(kName);
  if (!given) return nullptr;
  const OptionPath where(kName);
  const auto spec = detail::read_module(*given, where);
  return [weights = within(where, [&] { return make_callable(spec, arguments.compat()); })](
             const at::Tensor& pairs) { return weights(pairs); };
}

Value call_generate(BeliefStateWrapperImpl& model, Arguments& arguments) {
  const auto tokens = [&](const at::Tensor& given, const char* name) {
    auto ids = as_tokens(given, name, arguments, *model.forward_decoder());
    require_in_range(ids, name, token_range(*model.forward_decoder()));
    return ids;
  };
  SuffixGenerationInputs inputs;
  inputs.prompts = tokens(arguments.required_tensor("prompts"), "prompts");
  inputs.suffix = tokens(arguments.tensor("suffix"), "suffix");
  inputs.cache_kv = arguments.flag("cache_kv");
  inputs.decode_backwards = arguments.flag("decode_backwards");
  const auto usual = BeliefStateWrapperImpl::suffix_sampling();
  const bool names_filter = arguments.has("filter_logits_fn") || arguments.has("filter_kwargs");
  const bool has_temperature = arguments.has("temperature");
  auto options = take_options<GenerateOptions>(arguments);
  if (!has_temperature) options.temperature = usual.temperature;
  if (!names_filter) options.filter_kwargs = usual.filter_kwargs;
  if (!options.filter_logits_fn) options.filter_logits_fn = usual.filter_logits_fn;
  inputs.net = take_transformer_inputs(arguments);
  require_in_range(inputs.net, *model.forward_decoder());
  take_without_effect_in_generation(arguments);
  return model.generate_with_suffix_cond(inputs, options);
}

class BeliefStateModel : public HolderModel<BeliefStateWrapper>, public TokenPredictor {
 public:
  BeliefStateModel(const std::shared_ptr<Model>& forward_decoder,
                   const std::shared_ptr<Model>& backward_decoder,
                   const BeliefStateWrapperOptions& options)
      : HolderModel(BeliefStateWrapper(forward_decoder->token_model(),
                                       backward_decoder ? backward_decoder->token_model() : nullptr,
                                       options)) {}

  Value call(const std::string& method, Arguments& arguments) override {
    if (method == "generate_with_suffix_cond") return call_generate(*holder_, arguments);
    require_forward("BeliefStateWrapper", method);
    const auto& net = *holder_->forward_decoder();
    const auto seq = as_tokens(arguments.required_tensor("seq"), "seq", arguments, net);
    if (arguments.source() == ArgumentSource::outside) {
      require_in_range(seq, "seq", token_range(net));
      require_in_range(seq, "seq", {net.traits().num_tokens, "num_tokens"});
    }
    const auto lens = arguments.tensor_or_integers("lens");
    return holder_->forward(seq, lens, take_pair_weights(arguments));
  }
  std::string first_argument() const override { return "seq"; }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq, holder_->max_seq_len());
    call.inputs["seq"] = at::zeros({1, call.tokens}, at::kLong);
    return call;
  }

  LossUnit loss_unit() const override { return {"nats per token, mean of both directions"}; }

  SeeingNet net_that_sees_targets(const std::set<std::string>& /*names*/) override {
    auto ahead = seeing_net("forward_decoder", *holder_->forward_decoder());
    return ahead.net.empty() ? seeing_net("backward_decoder", *holder_->backward_decoder()) : ahead;
  }

  /// Both decoders see every token of a sequence.
  std::optional<TokenTask> token_task() override {
    const auto traits = holder_->forward_decoder()->traits();
    TokenTask task;
    task.num_tokens = traits.num_tokens;
    task.counted_by = OptionPath("forward_decoder") / "num_tokens";
    const auto max_seq_len = OptionPath("forward_decoder") / "max_seq_len";
    task.limited_by = text("{} = 0", max_seq_len);
    if (traits.max_seq_len == 0) return task;
    task.longest = traits.max_seq_len - (traits.has_abs_pos_emb ? 1 : 0);
    task.limited_by = text("{} = {}{}", max_seq_len, traits.max_seq_len,
                           traits.has_abs_pos_emb ? " less the last token" : "");
    return task;
  }

  TokenWriter* writer() override { return holder_.get(); }

  std::string predicted_tensor() const override { return "seq"; }
  at::Tensor next_token_logits(const TensorMap& batch) override {
    return holder_->next_token_logits(batch.at(predicted_tensor()));
  }
};

}  // namespace

void register_belief_state(ModelTypes& types) {
  types.add({"BeliefStateWrapper", TypeGroup::objectives,
             "the next and the previous token, from both ends"},
            model_type<BeliefStateArguments>([](const BeliefStateArguments& options,
                                                const Json& config, const ModelPlace& place) {
              const auto ahead = build_net(config, "forward_decoder", place);
              const auto back =
                  options.backward_decoder ? build_net(config, "backward_decoder", place) : nullptr;
              return within(place.where, [&] {
                return std::make_shared<BeliefStateModel>(ahead, back, options);
              });
            }));
}

}  // namespace x_transformers
