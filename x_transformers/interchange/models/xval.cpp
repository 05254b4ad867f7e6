// XValTransformerWrapper and XValAutoregressiveWrapper in the interchange.
#include "x_transformers/models/xval.h"

#include <ATen/ATen.h>

#include <set>
#include <string>
#include <utility>

#include "x_transformers/interchange/cached_call.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/next_entry_input.h"
#include "x_transformers/interchange/option_arguments.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/sequence_returns.h"
#include "x_transformers/interchange/stack_sample.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/wrappers/xval_autoregressive.h"

namespace x_transformers {
namespace {

/// The inputs of a call other than its tokens and a cache; XVal's forward takes x_num, and its
/// generate another name.
XValInputs take_xval_inputs(Arguments& arguments, const XValNet& net, const char* numbers) {
  XValInputs inputs;
  inputs.x_num = arguments.required_tensor(numbers);
  InputTaker taker(arguments, {"x_num"});
  XValInputs::fields(inputs, taker);
  const auto positions = net.embedded_positions();
  if (positions && arguments.source() == ArgumentSource::outside)
    require_in_range(inputs.pos, "pos", {positions->count, positions->option});
  return inputs;
}

at::Tensor take_tokens(Arguments& arguments, const char* name) {
  const auto x = arguments.required_tensor(name);
  return arguments.source() == ArgumentSource::outside ? whole_ids(x, name) : x;
}

IdRange embedded(const XValNet& net) { return {net.num_tokens(), "num_tokens"}; }

class XValModel : public HolderModel<XValTransformerWrapper> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("XValTransformerWrapper", method);
    auto x = take_tokens(arguments, "x");
    if (arguments.source() == ArgumentSource::outside) require_in_range(x, "x", embedded(*holder_));
    auto inputs = take_xval_inputs(arguments, *holder_, "x_num");
    const auto prefix =
        entries_before_tokens(holder_->options().num_memory_tokens, inputs.prepend_embeds);
    auto given_cache =
        take_cache(arguments, *holder_->attn_layers(), x,
                   {CacheTaker::stack, inputs.layers, at::Tensor(), at::Tensor(), prefix});
    inputs.x = x;
    TransformerCache cache;
    if (given_cache) use_cache(cache, std::move(*given_cache), prefix, x, inputs);
    const auto returns = take_sequence_returns(arguments);
    set_wants(inputs, returns);
    inputs.heads = !returns.embeddings;
    const auto output = holder_->forward(inputs);
    const auto mems = returns.mems ? kept_hiddens(output.layers, {}, holder_->kept_mems())
                                   : std::vector<at::Tensor>();
    const auto out = returns.embeddings
                         ? Value(output.embeddings)
                         : Value::list(std::vector<at::Tensor>{output.logits, output.numbers});
    return nested_returns(out, output, returns, mems, holder_->attn_layers()->options());
  }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>&) override {
    return {.unsupported =
                "the model gives logits and numbers, of which no loss is known; a "
                "XValAutoregressiveWrapper around it learns what comes next"};
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq, holder_->max_seq_len());
    call.inputs["x"] = at::zeros({1, call.tokens}, at::kLong);
    call.inputs["x_num"] = at::zeros({1, call.tokens});
    add_stack_sample(*holder_->attn_layers(), call);
    return call;
  }

  const XValTransformerWrapper& holder() const { return holder_; }
};

/// The arguments of Python's constructor.
struct XValAutoregressiveArguments : XValAutoregressiveWrapperOptions {
  ModuleSpec net = {"XValTransformerWrapper"};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("net", net, "the model, a XValTransformerWrapper");
    XValAutoregressiveWrapperOptions::fields(v);
  }
};

class XValAutoregressiveModel : public HolderModel<XValAutoregressiveWrapper> {
 public:
  XValAutoregressiveModel(std::shared_ptr<XValModel> net,
                          const XValAutoregressiveWrapperOptions& options)
      : HolderModel(XValAutoregressiveWrapper(net->holder(), options)), net_(std::move(net)) {}

  Value call(const std::string& method, Arguments& arguments) override {
    arguments.absent("cache", "a sequence is trained on and generated without one");
    if (method == "generate") return generate(arguments);
    require_forward("XValAutoregressiveWrapper", method);
    const auto x = take_tokens(arguments, "x");
    require_tokens(x, arguments);
    auto inputs = take_xval_inputs(arguments, *holder_->net(), "x_num");
    inputs.x = x;
    const bool return_breakdown = arguments.flag("return_loss_breakdown");
    const auto output = holder_->forward(inputs);
    if (!return_breakdown) return output.loss;
    Value breakdown;
    breakdown.add("cross_entropy_loss", output.cross_entropy_loss);
    breakdown.add("numerical_mse_loss", output.numerical_mse_loss);
    return Value::list(std::vector<Value>{output.loss, breakdown});
  }

  LossUnit loss_unit() const override { return {"nats per token + square error of numbers"}; }

  SeeingNet net_that_sees_targets(const std::set<std::string>& /*names*/) override {
    return holder_->net()->is_causal() ? SeeingNet() : SeeingNet{"net", "attn_layers"};
  }

  LossInputs loss_inputs(const std::set<std::string>&) override {
    const auto& net = *holder_->net();
    LossInput x{.name = "x", .kind = LossInputKind::ids};
    x.sizes = std::vector<int64_t>{-1};
    x.count = net.num_tokens();
    x.counted_by = OptionPath("net") / "num_tokens";
    x.ignored = holder_->options().ignore_index;
    x = of_next_entries(std::move(x), net.embedded_positions());
    LossInput numbers{.name = "x_num", .kind = LossInputKind::numbers};
    numbers.sizes = x.sizes;
    numbers.beside = x.name;
    numbers.read_at = net.numerical_token_id();
    return {.tensors = {std::move(x), std::move(numbers)}};
  }

  /// The net's, with one token more, which only the loss needs.
  SampleCall sample_call(std::optional<int64_t> seq) override {
    auto call = net_->sample_call(seq);
    call.inputs["x"] = at::zeros({1, call.tokens + 1}, at::kLong);
    call.inputs["x_num"] = at::zeros({1, call.tokens + 1});
    return call;
  }

 private:
  /// A look costs nothing on the CPU, where what is out of range would be LibTorch's to say.
  void require_tokens(const at::Tensor& x, const Arguments& arguments) const {
    if (arguments.source() != ArgumentSource::outside && !x.is_cpu()) return;
    const auto& net = *holder_->net();
    auto range = embedded(net);
    range.other = holder_->options().ignore_index;
    require_in_range(x, "x", range);
    const auto predicted = net.predicted_tokens();
    if (x.dim() == 2 && x.size(1) > 1)
      require_in_range(x.narrow(1, 1, x.size(1) - 1), "x[:, 1:]",
                       {predicted.count, predicted.option, range.other});
  }

  Value generate(Arguments& arguments) {
    const auto start = take_tokens(arguments, "start_tokens");
    require_in_range(start, "start_tokens", embedded(*holder_->net()));
    const auto options = take_options<XValGenerateOptions>(arguments);
    auto inputs = take_xval_inputs(arguments, *holder_->net(), "start_numbers");
    inputs.x = start;
    const auto generated = holder_->generate(inputs, options);
    Value value;
    value.add("sampled_token_ids", generated.sampled_token_ids);
    value.add("sampled_numbers", generated.sampled_numbers);
    value.add("is_number_mask", generated.is_number_mask);
    return value;
  }

  std::shared_ptr<XValModel> net_;
};

}  // namespace

void register_xval(ModelTypes& types) {
  types.add(
      {"XValTransformerWrapper", TypeGroup::models, "tokens and numbers in one sequence"},
      model_type<XValTransformerWrapperOptions>([](const XValTransformerWrapperOptions& options) {
        return std::make_shared<XValModel>(XValTransformerWrapper(options));
      }));
  types.add(
      {"XValAutoregressiveWrapper", TypeGroup::objectives, "the next token and the next number"},
      model_type<XValAutoregressiveArguments>([](const XValAutoregressiveArguments& options,
                                                 const Json& config, const ModelPlace& place) {
        const auto net = build_net_of<XValModel>(config, "net", place, "XValTransformerWrapper");
        return built(below(place.where),
                     [&] { return std::make_shared<XValAutoregressiveModel>(net, options); });
      }));
}

}  // namespace x_transformers
