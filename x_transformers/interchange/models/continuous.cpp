// ContinuousTransformerWrapper and ContinuousAutoregressiveWrapper in the interchange.
#include "x_transformers/models/continuous.h"

#include <ATen/ATen.h>

#include <set>
#include <string>
#include <utility>

#include "x_transformers/interchange/cached_call.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/labelled_loss.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/next_entry_input.h"
#include "x_transformers/interchange/option_arguments.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/sequence_returns.h"
#include "x_transformers/interchange/stack_sample.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/wrappers/continuous_autoregressive.h"

namespace x_transformers {
namespace {

/// The inputs of a call other than x and a cache.
ContinuousInputs take_continuous_inputs(Arguments& arguments, const ContinuousNet& net) {
  ContinuousInputs inputs;
  take_inputs(arguments, inputs);
  if (arguments.source() == ArgumentSource::outside)
    require_positions_in_range(inputs.pos, inputs.seq_start_pos, net.embedded_positions());
  return inputs;
}

class ContinuousModel : public HolderModel<ContinuousTransformerWrapper> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("ContinuousTransformerWrapper", method);
    auto x = arguments.required_tensor("x");
    auto inputs = take_continuous_inputs(arguments, *holder_);
    const auto prefix =
        entries_before_tokens(holder_->options().num_memory_tokens, inputs.prepend_embeds);
    auto given_cache = take_cache(
        arguments, *holder_->attn_layers(), x,
        {CacheTaker::wrapper, inputs.layers, at::Tensor(), inputs.seq_start_pos, prefix});
    inputs.x = x;
    TransformerCache cache;
    if (given_cache) use_cache(cache, std::move(*given_cache), prefix, x, inputs);
    const auto returns = take_sequence_returns(arguments);
    set_wants(inputs, returns);
    inputs.project = !returns.embeddings;
    const auto output = holder_->forward(inputs);
    // As in Python, memories are not joined to those before them.
    const auto mems = returns.mems ? kept_hiddens(output.layers, {}, holder_->kept_mems())
                                   : std::vector<at::Tensor>();
    return nested_returns(returns.embeddings ? output.embeddings : output.out, output, returns,
                          mems, holder_->attn_layers()->options());
  }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>& names) override {
    LossInputs inputs = answered_inputs({-1}, holder_->dim_out(), "dim_out");
    inputs.tensors.push_back(series_input());
    const bool has_answer = names.contains("labels") || names.contains("target");
    if (holder_->options().probabilistic || !has_answer) {
      inputs.unsupported = text(
          "the model has no loss of a sequence alone; a ContinuousAutoregressiveWrapper "
          "around it learns what comes next{}",
          holder_->options().probabilistic
              ? ""
              : ", and alone it learns from a tensor labels or target besides");
    }
    return inputs;
  }
  /// x, as every wrapper takes it.
  LossInput series_input() const {
    LossInput x{.name = "x", .kind = LossInputKind::numbers};
    x.sizes = std::vector<int64_t>{-1, holder_->dim_in().value_or(-1)};
    return x;
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    const auto dim_in = holder_->dim_in();
    require(dim_in.has_value(), at("project_in"),
            "decides what the input is, so no sample call is known");
    SampleCall call;
    call.tokens = sample_tokens(seq, holder_->max_seq_len());
    call.inputs["x"] = at::zeros({1, call.tokens, *dim_in});
    add_stack_sample(*holder_->attn_layers(), call);
    return call;
  }

  const ContinuousTransformerWrapper& holder() const { return holder_; }
};

/// The arguments of Python's constructor.
struct ContinuousAutoregressiveArguments : ContinuousAutoregressiveWrapperOptions {
  ModuleSpec net = {"ContinuousTransformerWrapper"};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("net", net, "the model, a ContinuousTransformerWrapper");
    ContinuousAutoregressiveWrapperOptions::fields(v);
  }
};

class ContinuousAutoregressiveModel : public HolderModel<ContinuousAutoregressiveWrapper> {
 public:
  ContinuousAutoregressiveModel(std::shared_ptr<ContinuousModel> net,
                                const ContinuousAutoregressiveWrapperOptions& options)
      : HolderModel(ContinuousAutoregressiveWrapper(net->holder(), options)),
        net_(std::move(net)) {}

  Value call(const std::string& method, Arguments& arguments) override {
    if (method == "generate") return generate(arguments);
    require_forward("ContinuousAutoregressiveWrapper", method);
    const auto x = arguments.required_tensor("x");
    const auto steps = arguments.integer("rollout_steps").value_or(1);
    auto inputs = take(arguments);
    inputs.x = x;
    return steps > 1 ? holder_->rollout(inputs, steps) : holder_->forward(inputs);
  }

  LossUnit loss_unit() const override {
    if (holder_->options().loss_fn) return {};
    if (holder_->net()->is_probabilistic()) return {"negative log-likelihood per value"};
    return {holder_->options().use_l1_loss ? "mean absolute error per value"
                                           : "mean square error per value"};
  }

  SeeingNet net_that_sees_targets(const std::set<std::string>& /*names*/) override {
    return holder_->net()->is_causal() ? SeeingNet() : SeeingNet{"net", "attn_layers"};
  }

  LossInputs loss_inputs(const std::set<std::string>&) override {
    auto x = of_next_entries(net_->series_input(), holder_->net()->embedded_positions());
    return {.tensors = {std::move(x)}};
  }

  /// The net's, with one entry more, which only the loss needs.
  SampleCall sample_call(std::optional<int64_t> seq) override {
    auto call = net_->sample_call(seq);
    const auto& x = call.inputs.at("x");
    call.inputs["x"] = at::zeros({1, call.tokens + 1, x.size(2)});
    return call;
  }

 private:
  ContinuousInputs take(Arguments& arguments) {
    arguments.absent("cache", "a sequence is trained on and generated without one");
    return take_continuous_inputs(arguments, *holder_->net());
  }

  Value generate(Arguments& arguments) {
    const auto start = arguments.required_tensor("start_tokens");
    const auto options = take_options<ContinuousGenerateOptions>(arguments);
    auto inputs = take(arguments);
    inputs.x = start;
    return holder_->generate(inputs, options);
  }

  std::shared_ptr<ContinuousModel> net_;
};

}  // namespace

void register_continuous(ModelTypes& types) {
  types.add(
      {"ContinuousTransformerWrapper", TypeGroup::models, "rows of numbers in place of tokens"},
      model_type<ContinuousTransformerWrapperOptions>(
          [](const ContinuousTransformerWrapperOptions& options) {
            return std::make_shared<ContinuousModel>(ContinuousTransformerWrapper(options));
          }));
  types.add({"ContinuousAutoregressiveWrapper", TypeGroup::objectives, "the next row of numbers"},
            model_type<ContinuousAutoregressiveArguments>(
                [](const ContinuousAutoregressiveArguments& options, const Json& config,
                   const ModelPlace& place) {
                  const auto net = build_net_of<ContinuousModel>(config, "net", place,
                                                                 "ContinuousTransformerWrapper");
                  return built(below(place.where), [&] {
                    return std::make_shared<ContinuousAutoregressiveModel>(net, options);
                  });
                }));
}

}  // namespace x_transformers
