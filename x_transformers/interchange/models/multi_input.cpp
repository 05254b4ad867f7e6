// MultiInputTransformerWrapper in the interchange.
#include "x_transformers/models/multi_input.h"
#include "x_transformers/core/ignored_target.h"

#include <ATen/ATen.h>

#include <map>
#include <string_view>
#include <utility>

#include "x_transformers/core/json.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/interchange/cached_call.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/sequence_returns.h"
#include "x_transformers/interchange/stack_sample.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/ops/loss.h"

namespace x_transformers {
namespace {

Value by_name(const std::map<std::string, at::Tensor>& tensors) {
  Value value;
  for (const auto& [name, tensor] : tensors) value.add(name, tensor);
  return value;
}

/// A call's inputs, with the cache that they point to.
class MultiCall {
 public:
  MultiCall(Arguments& arguments, MultiInputTransformerWrapperImpl& net) {
    take_inputs(arguments, inputs);
    inputs.x = arguments.tensors_by_key("x");
    require(!inputs.x.empty(), at("x"), "is needed, as tensors x.NAME");
    if (arguments.source() == ArgumentSource::outside) require_ids(net);
    go_on(arguments, net);
  }
  MultiCall(const MultiCall&) = delete;
  MultiCall& operator=(const MultiCall&) = delete;

  MultiInputs inputs;

 private:
  void require_ids(const MultiInputTransformerWrapperImpl& net) {
    for (auto& [name, ids] : inputs.x) {
      ids = whole_ids(ids, "x." + name);
      const auto found = net.options().num_tokens.find(name);
      if (found != net.options().num_tokens.end())
        require_in_range(ids, "x." + name, {found->second, "num_tokens"});
    }
    require_positions_in_range(inputs.pos, inputs.seq_start_pos, net.embedded_positions());
  }

  /// Goes on from a cache among the arguments.
  void go_on(Arguments& arguments, MultiInputTransformerWrapperImpl& net) {
    auto x = inputs.x.begin()->second;
    const auto given = x.dim() == 2 ? x.size(1) : 0;
    const auto prefix =
        entries_before_tokens(net.options().num_memory_tokens, inputs.prepend_embeds);
    auto layers =
        take_cache(arguments, *net.attn_layers(), x,
                   {CacheTaker::stack, inputs.layers, at::Tensor(), inputs.seq_start_pos, prefix});
    if (!layers) return;
    const NewTokens tokens = {x.size(1), layers->length + x.size(1), prefix};
    for (auto& [name, ids] : inputs.x) tokens.cut(ids, -1, ("x." + name).c_str());
    // Python counts positions from the first token that it is given, be others cached or not.
    if (net.options().compat.python_quirks && given == x.size(1) && !inputs.pos.defined())
      inputs.pos = at::arange(given, x.options());
    use_cache(cache_, std::move(*layers), prefix, x, inputs);
  }

  TransformerCache cache_;
};

/// The tensors labels.NAME by name, which `batch` loses.
std::map<std::string, at::Tensor> taken_labels(TensorMap& batch) {
  constexpr std::string_view kPrefix = "labels.";
  std::map<std::string, at::Tensor> labels;
  std::erase_if(batch, [&](const auto& item) {
    const bool is_label = item.first.starts_with(kPrefix);
    if (is_label) labels[item.first.substr(kPrefix.size())] = item.second;
    return is_label;
  });
  return labels;
}

class MultiInputModel : public HolderModel<MultiInputTransformerWrapper> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("MultiInputTransformerWrapper", method);
    MultiCall call(arguments, *holder_);
    auto& inputs = call.inputs;
    auto returns = take_sequence_returns(arguments);
    const bool both = arguments.flag("return_logits_and_embeddings");
    const bool z_loss = arguments.flag("return_attn_z_loss");
    const auto weight = arguments.number("attn_z_loss_weight");
    if (weight && !z_loss)
      warn_unused(at("attn_z_loss_weight"), "changes nothing, {} is not asked for",
                  option("return_attn_z_loss"));
    const bool has_heads = !holder_->options().return_only_embed;
    require(!both || has_heads, at("return_logits_and_embeddings"), "{} makes no logits",
            option("return_only_embed"));
    // As in Python, the loss comes among the intermediates.
    returns.intermediates = returns.intermediates || z_loss;
    set_wants(inputs, returns);
    inputs.keep_maps = inputs.keep_maps || z_loss;
    inputs.logits = both || !returns.embeddings;
    const auto output = holder_->forward(inputs);

    Value out = by_name(output.logits);
    if (both) {
      out = Value::list(std::vector<Value>{out, output.embeddings});
    } else if (returns.embeddings || !has_heads) {
      out = output.embeddings;
    }
    const auto mems = returns.mems ? kept_hiddens(output.layers, output.mems, holder_->kept_mems())
                                   : std::vector<at::Tensor>();
    auto nested = nested_returns(out, output, returns, mems, holder_->attn_layers()->options());
    if (!returns.intermediates) return nested;
    auto& intermediates = nested.items.at(1).second;
    if (z_loss)
      intermediates.add("attn_z_loss",
                        attn_z_loss(output.layers, weight.value_or(kAttnZLossWeight)));
    if (returns.mems) intermediates.add("mems", Value::list(mems));
    return nested;
  }

  bool forward_is_loss() const override { return false; }
  /// Of labels.NAME [batch, seq], the ids that the head of an input has logits for: the mean over
  /// the heads that have labels of the cross entropy of their logits.
  at::Tensor loss(const TensorMap& batch) override {
    TensorMap inputs = batch;
    const auto labels = taken_labels(inputs);
    require(!labels.empty(), "the model has no loss without labels.NAME of one of its inputs");
    Arguments arguments(std::move(inputs), Json::object(), ArgumentSource::checked, compat());
    const auto logits = call("forward", arguments);
    arguments.finish();
    at::Tensor sum;
    for (const auto& [name, tensor] : logits.items) {
      const auto found = labels.find(name);
      if (found == labels.end()) continue;
      const auto loss = cross_entropy(tensor.tensor, found->second);
      sum = sum.defined() ? sum + loss : loss;
    }
    require(sum.defined(), at("labels"), "the model gives no logits that they are of");
    return sum / static_cast<double>(labels.size());
  }

  LossInputs loss_inputs(const std::set<std::string>&) override {
    LossInputs inputs;
    for (const auto& [name, count] : holder_->options().num_tokens) {
      for (const char* part : {"x.", "labels."}) {
        LossInput ids{.name = part + name, .kind = LossInputKind::ids};
        ids.sizes = std::vector<int64_t>{-1};
        ids.count = count;
        ids.counted_by = OptionPath("num_tokens") / name;
        if (std::string(part) == "labels.") {
          ids.ignored = kIgnoredTarget;
          ids.is_needed = false;
          inputs.answers.push_back(ids.name);
        } else if (const auto positions = holder_->embedded_positions()) {
          ids.longest = positions->count;
          ids.limited_by = text("{} is {}", option(positions->option), positions->count);
        }
        inputs.tensors.push_back(std::move(ids));
      }
    }
    return inputs;
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    const auto& o = holder_->options();
    SampleCall call;
    call.tokens = sample_tokens(seq, o.max_seq_len);
    for (const auto& [name, count] : o.num_tokens)
      call.inputs["x." + name] = at::zeros({1, call.tokens}, at::kLong);
    add_stack_sample(*holder_->attn_layers(), call);
    return call;
  }
};

}  // namespace

void register_multi_input(ModelTypes& types) {
  types.add({"MultiInputTransformerWrapper", TypeGroup::models,
             "several kinds of tokens at each position"},
            model_type<MultiInputTransformerWrapperOptions>(
                [](const MultiInputTransformerWrapperOptions& options) {
                  return std::make_shared<MultiInputModel>(MultiInputTransformerWrapper(options));
                }));
}

}  // namespace x_transformers
