// FLASH-pytorch's FLASHTransformer and its wrapper in the interchange.
#include <ATen/ATen.h>

#include "x_transformers/core/json.h"
#include "x_transformers/interchange/labelled_loss.h"
#include "x_transformers/interchange/models/next_token_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/option_arguments.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/flash_transformer.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/wrappers/flash_autoregressive.h"

namespace x_transformers {
namespace {

/// The argument `name` as tokens that the net embeds; `ignored`: another value that is allowed.
at::Tensor take_tokens(Arguments& arguments, const char* name, const TokenModel& net,
                       std::optional<int64_t> ignored = std::nullopt) {
  auto tokens = as_tokens(arguments.required_tensor(name), name, arguments, net);
  auto range = token_range(net);
  range.other = ignored;
  if (arguments.source() == ArgumentSource::outside) require_in_range(tokens, name, range);
  return tokens;
}

class FLASHTransformerModel : public HolderModel<FLASHTransformer> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("FLASHTransformer", method);
    const auto x = take_tokens(arguments, "x", *holder_);
    return holder_->forward(x, arguments.mask("mask"));
  }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>&) override {
    const auto classes = holder_->predicted_tokens();
    auto inputs = answered_inputs({-1}, classes ? std::optional(classes->count) : std::nullopt,
                                  classes ? classes->option : "");
    inputs.tensors.push_back(token_input(*holder_, "x"));
    return inputs;
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq);
    call.inputs["x"] = at::zeros({1, call.tokens}, at::kLong);
    return call;
  }

  std::shared_ptr<TokenModel> token_model() override { return holder_.ptr(); }
};

/// The arguments of Python's constructor.
struct WrapperArguments : FLASHAutoregressiveWrapperOptions {
  ModuleSpec net = {"FLASHTransformer"};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("net", net, "the model, such as a FLASHTransformer");
    FLASHAutoregressiveWrapperOptions::fields(v);
  }
};

class FLASHAutoregressiveModel : public NextTokenModel<FLASHAutoregressiveWrapper> {
 public:
  FLASHAutoregressiveModel(const std::shared_ptr<Model>& net,
                           const FLASHAutoregressiveWrapperOptions& options)
      : NextTokenModel(FLASHAutoregressiveWrapper(net->token_model(), options), net) {}

  Value call(const std::string& method, Arguments& arguments) override {
    const auto& net = *holder_->net();
    if (method == "generate") {
      const auto start_tokens = take_tokens(arguments, "start_tokens", net);
      const auto options = take_options<FLASHGenerateOptions>(arguments);
      return holder_->generate(start_tokens, options, arguments.mask("mask"));
    }
    require_forward("FLASHAutoregressiveWrapper", method);
    const auto x = take_tokens(arguments, "x", net, FLASHAutoregressiveWrapperImpl::kIgnored);
    return holder_->forward(x, arguments.mask("mask"));
  }

  std::optional<TokenTask> token_task() override {
    auto task = NextTokenModel::token_task();
    const auto max_seq_len = holder_->net()->traits().max_seq_len;
    task->ignored = FLASHAutoregressiveWrapperImpl::kIgnored;
    task->limited_by = text("{} = 0", OptionPath("net") / "max_seq_len");
    if (max_seq_len == 0) return task;
    task->longest = max_seq_len;
    task->limited_by = text("{} = {}", OptionPath("net") / "max_seq_len", max_seq_len);
    return task;
  }
};

std::shared_ptr<FLASHAutoregressiveModel> make_wrapper(const WrapperArguments& options,
                                                       const Json& config,
                                                       const ModelPlace& place) {
  const auto net = build_net(config, "net", place);
  return within(place.where,
                [&] { return std::make_shared<FLASHAutoregressiveModel>(net, options); });
}

}  // namespace

void register_flash_transformer(ModelTypes& types) {
  types
      .add({"FLASHTransformer", TypeGroup::models,
            "a stack of FLASH layers over tokens (FLASH-pytorch)"},
           model_type<FLASHTransformerOptions>([](const FLASHTransformerOptions& options) {
             return std::make_shared<FLASHTransformerModel>(FLASHTransformer(options));
           }))
      .is_net = true;
  types.add({"FLASHAutoregressiveWrapper", TypeGroup::objectives,
             "the next token, for a FLASHTransformer"},
            model_type<WrapperArguments>(make_wrapper));
}

}  // namespace x_transformers
