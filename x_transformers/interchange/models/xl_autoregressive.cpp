// XLAutoregressiveWrapper in the interchange.
#include "x_transformers/wrappers/xl_autoregressive.h"

#include <ATen/ATen.h>

#include "x_transformers/interchange/generation_arguments.h"
#include "x_transformers/interchange/models/next_token_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/option_arguments.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

/// The arguments of Python's constructor.
struct XLAutoregressiveArguments : XLAutoregressiveWrapperOptions {
  ModuleSpec net = {"TransformerWrapper"};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("net", net, "the model, such as a TransformerWrapper with max_mem_len");
    XLAutoregressiveWrapperOptions::fields(v);
  }
};

Value call_generate(XLAutoregressiveWrapperImpl& model, Arguments& arguments) {
  XLGenerationInputs inputs;
  inputs.start_tokens =
      as_tokens(arguments.required_tensor("start_tokens"), "start_tokens", arguments, *model.net());
  require_in_range(inputs.start_tokens, "start_tokens", token_range(*model.net()));
  const auto options = take_options<GenerateOptions>(arguments);
  inputs.net = take_transformer_inputs(arguments);
  require_in_range(inputs.net, *model.net());
  take_without_effect_in_generation(arguments);
  return model.generate(inputs, options);
}

Value call_forward(XLAutoregressiveWrapperImpl& model, Arguments& arguments) {
  const auto x = as_tokens(arguments.required_tensor("x"), "x", arguments, *model.net());
  auto inputs = take_transformer_inputs(arguments);
  if (arguments.source() == ArgumentSource::outside) {
    require_tokens_of_loss(x, "x", *model.net(), model.options().ignore_index);
    require_in_range(inputs, *model.net());
  }
  take_without_effect(arguments, {"return_attn", "input_not_include_cache"});
  return model.forward(x, std::move(inputs));
}

class XLAutoregressiveModel : public NextTokenModel<XLAutoregressiveWrapper> {
 public:
  XLAutoregressiveModel(const std::shared_ptr<Model>& net,
                        const XLAutoregressiveWrapperOptions& options)
      : NextTokenModel(XLAutoregressiveWrapper(net->token_model(), options), net) {}

  Value call(const std::string& method, Arguments& arguments) override {
    if (method == "generate") return call_generate(*holder_, arguments);
    require_forward("XLAutoregressiveWrapper", method);
    return call_forward(*holder_, arguments);
  }

  void set_loss_chunk(int64_t rows) override { holder_->set_loss_chunk(rows); }
  /// Each segment with the memories of those before it.
  at::Tensor next_token_logits(const TensorMap& batch) override {
    return holder_->logits(batch.at("x"));
  }

  std::optional<TokenTask> token_task() override {
    auto task = NextTokenModel::token_task();
    task->ignored = holder_->options().ignore_index;
    return task;
  }
};

}  // namespace

void register_xl_autoregressive(ModelTypes& types) {
  types.add({"XLAutoregressiveWrapper", TypeGroup::objectives,
             "the next token, with memories of the segments before"},
            model_type<XLAutoregressiveArguments>([](const XLAutoregressiveArguments& options,
                                                     const Json& config, const ModelPlace& place) {
              const auto net = build_net(config, "net", place);
              return within(place.where,
                            [&] { return std::make_shared<XLAutoregressiveModel>(net, options); });
            }));
}

}  // namespace x_transformers
