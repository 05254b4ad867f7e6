// Stacks of layers and their parts in the interchange.
#include <ATen/ATen.h>

#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/labelled_loss.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/stack_returns.h"
#include "x_transformers/interchange/stack_sample.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_pool.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/feed_forward.h"

namespace x_transformers {
namespace {

/// What trains features [b, n, dim] that come out: a label of `dim` classes or numbers for each.
/// `input` [b, n, dim_in] goes in; with dim_in -1 it may have other axes.
LossInputs feature_inputs(const char* input, int64_t dim_in, int64_t dim) {
  auto inputs = answered_inputs({-1}, dim, "dim");
  LossInput features{.name = input, .kind = LossInputKind::numbers};
  if (dim_in >= 0) features.sizes = std::vector<int64_t>{-1, dim_in};
  inputs.tensors.push_back(std::move(features));
  return inputs;
}

class LayersModel : public HolderModel<AttentionLayers> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward(holder_->options().type_name(), method);
    StackCall call(arguments, *holder_);
    auto& inputs = call.inputs;
    inputs.keep_hiddens = inputs.keep_caches = arguments.flag("return_hiddens");
    const auto output = holder_->forward(inputs);
    if (!inputs.keep_hiddens) return output.out;
    return Value::list(std::vector<Value>{output.out, stack_intermediates(output)});
  }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>&) override {
    const auto dim = holder_->options().dim;
    return feature_inputs("x", dim, dim);
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq);
    call.inputs["x"] = at::zeros({1, call.tokens, holder_->options().dim});
    add_stack_sample(*holder_, call);
    return call;
  }
};

/// Python's Intermediates.
Value intermediates_of(const AttentionOutput& output, const AttentionCall& call,
                       const AttentionOptions& options) {
  Value intermediates;
  intermediates.add("qk_similarities", output.maps.qk_similarities);
  intermediates.add("pre_softmax_attn", output.maps.pre_softmax_attn);
  intermediates.add("post_softmax_attn", output.maps.post_softmax_attn);
  intermediates.add("values", output.values);
  std::vector<at::Tensor> kept = {output.kept.keys, output.kept.values};
  if (!options.use_latent_kv) {
    for (size_t part = 0; part < call.cached.size(); ++part)
      kept[part] = at::cat({call.cached[part], kept[part]}, 2);
  }
  intermediates.add("cached_kv", Value::list(kept));
  intermediates.add("hybrid_hidden", output.hybrid_hidden);
  return intermediates;
}

class AttentionModel : public HolderModel<Attention> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("Attention", method);
    const auto& options = holder_->options();
    AttentionCall call(arguments, *holder_);
    const bool return_intermediates = arguments.flag("return_intermediates");
    call.inputs.keep_maps = return_intermediates && !options.flash;
    call.inputs.keep_cache = return_intermediates;
    const auto output = holder_->forward(call.inputs);
    if (!return_intermediates) return output.out;
    return Value::list(std::vector<Value>{output.out, intermediates_of(output, call, options)});
  }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>&) override {
    const auto& o = holder_->options();
    return feature_inputs("x", o.qkv_receive_diff_residuals ? -1 : o.dim,
                          o.dim_out.value_or(o.dim));
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    const auto& o = holder_->options();
    SampleCall call;
    call.tokens = sample_tokens(seq);
    const auto features = [&](int64_t dim) { return at::zeros({1, call.tokens, dim}); };
    call.inputs["x"] = features(o.dim);
    if (o.qkv_receive_diff_residuals) call.inputs["x"] = at::zeros({3, 1, call.tokens, o.dim});
    if (o.dim_context) call.inputs["context"] = features(*o.dim_context);
    if (o.flash_pack_seq) add_packed_sample("flash_pack_seq_kwargs", call);
    return call;
  }
};

class FeedForwardModel : public HolderModel<FeedForward> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("FeedForward", method);
    FeedForwardInputs inputs;
    inputs.x = arguments.required_tensor("x");
    take_inputs(arguments, inputs);
    return holder_->forward(inputs);
  }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>&) override {
    const auto& o = holder_->options();
    return feature_inputs("x", o.dim, o.dim_out.value_or(o.dim));
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq);
    call.inputs["x"] = at::zeros({1, call.tokens, holder_->options().dim});
    return call;
  }
};

class PoolModel : public HolderModel<AttentionPool> {
 public:
  PoolModel(AttentionPool pool, int64_t dim_context)
      : HolderModel(std::move(pool)), dim_context_(dim_context) {}

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("AttentionPool", method);
    AttentionPoolInputs inputs;
    inputs.context = arguments.required_tensor("context");
    take_inputs(arguments, inputs);
    return holder_->forward(inputs);
  }
  std::string first_argument() const override { return "context"; }
  bool forward_is_loss() const override { return false; }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq);
    call.inputs["context"] = at::zeros({1, call.tokens, dim_context_});
    return call;
  }

 private:
  int64_t dim_context_;
};

}  // namespace

void register_layers(ModelTypes& types) {
  const TypeHelp stacks[] = {
      {"Decoder", TypeGroup::stacks, "layers in which no token sees later ones"},
      {"Encoder", TypeGroup::stacks, "layers in which every token sees all others"},
      {"PrefixDecoder", TypeGroup::stacks, "a decoder whose first tokens see each other"},
      {"CrossAttender", TypeGroup::stacks, "layers that attend to a context only"},
      {"AttentionLayers", TypeGroup::stacks,
       "layers of attention and feed-forward; `causal` says which kind"}};
  for (const auto& stack : stacks) {
    auto type = model_type<AttentionLayersOptions>([](const AttentionLayersOptions& options) {
      return std::make_shared<LayersModel>(AttentionLayers(options));
    });
    type.help = [name = stack.name] {  // which options there are depends on the kind of stack
      AttentionLayersOptions options;
      options.set_type(name);
      return options_help(options);
    };
    types.add(stack, std::move(type));
  }
  types.add(
      {"Attention", TypeGroup::attention, "multi-head attention: projections, scores, output"},
      model_type<AttentionOptions>([](const AttentionOptions& options) {
        return std::make_shared<AttentionModel>(Attention(options));
      }));
  types.add(
      {"FeedForward", TypeGroup::feed_forward, "two linear layers and an activation between them"},
      model_type<FeedForwardOptions>([](const FeedForwardOptions& options) {
        return std::make_shared<FeedForwardModel>(FeedForward(options));
      }));
  types.add({"AttentionPool", TypeGroup::stacks, "a few learned queries that sum up a sequence"},
            model_type<AttentionPoolOptions>([](const AttentionPoolOptions& o) {
              return std::make_shared<PoolModel>(AttentionPool(o), o.dim_context.value_or(o.dim));
            }));
}

}  // namespace x_transformers
