// FreeTransformer and its mapper to codes in the interchange.
#include "x_transformers/systems/free_transformer.h"

#include <ATen/ATen.h>

#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

IdRange tokens_of(const FreeTransformerOptions& options, bool may_be_padding) {
  IdRange range{options.num_tokens, "num_tokens"};
  if (may_be_padding) range.other = options.pad_id;
  return range;
}

GenerateOptions take_sampling(Arguments& arguments) {
  auto options = FreeTransformerImpl::usual_sampling();
  options.seq_len = arguments.required_integer("seq_len");
  if (const auto filter = arguments.text("filter_logits_fn")) {
    options.filter_logits_fn = filter;
    options.filter_kwargs.clear();
  }
  if (arguments.has("logit_filter_kwargs"))
    options.filter_kwargs = arguments.numbers_by_key("logit_filter_kwargs");
  options.temperature = arguments.number("temperature").value_or(options.temperature);
  options.seed = arguments.integer("seed");
  return options;
}

Value call_generate(FreeTransformerImpl& model, Arguments& arguments) {
  const auto prompts =
      required_ids(arguments, "prompts", tokens_of(model.options(), /*may_be_padding=*/false));
  const auto latents = arguments.tensor_or_numbers("latents");
  require_in_range(latents, "latents",
                   {int64_t{1} << model.options().latent_bits, "2 ** latent_bits"});
  const bool use_kv_cache = arguments.flag("use_kv_cache", true);
  return model.generate(prompts, take_sampling(arguments), latents, use_kv_cache);
}

Value call_encode(FreeTransformerImpl& model, Arguments& arguments) {
  const bool return_kl_loss = arguments.flag("return_kl_loss");
  const auto per_token = arguments.optional_flag("per_token_latents");
  const auto output = model.encode_to_latents(arguments.required_tensor("decoder_head_embeds"),
                                              arguments.mask("mask"), return_kl_loss, per_token);
  if (!return_kl_loss) return output.one_hot;
  return Value::list(std::vector<at::Tensor>{output.one_hot, output.aux_kl_loss});
}

class FreeTransformerModel : public HolderModel<FreeTransformer>, public TokenPredictor {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    if (method == "generate") return call_generate(*holder_, arguments);
    if (method == "encode_to_latents") return call_encode(*holder_, arguments);
    require_forward("FreeTransformer", method);
    const auto range = tokens_of(holder_->options(), /*may_be_padding=*/true);
    const auto seq = required_ids(arguments, "seq", range);
    const auto losses = holder_->forward(seq, take_ids(arguments, "seq_for_latents", range));
    if (!arguments.flag("return_all_losses")) return losses.total;
    return Value::list(std::vector<Value>{
        losses.total, Value::list(std::vector<at::Tensor>{losses.ar_loss, losses.kl_loss})});
  }
  std::string first_argument() const override { return "seq"; }

  /// The loss is of one token less than there are.
  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq, holder_->options().max_seq_len);
    call.inputs["seq"] = at::zeros({1, call.tokens + 1}, at::kLong);
    return call;
  }

  LossUnit loss_unit() const override { return {"nats per token + divergence of latents"}; }

  std::optional<TokenTask> token_task() override {
    const auto& o = holder_->options();
    TokenTask task{.num_tokens = o.num_tokens,
                   .longest = o.max_seq_len,
                   .limited_by = text("{} = {}", option("max_seq_len"), o.max_seq_len)};
    task.ignored = o.pad_id;
    return task;
  }

  TokenWriter* writer() override { return holder_.get(); }

  std::string predicted_tensor() const override { return "seq"; }
  at::Tensor next_token_logits(const TensorMap& batch) override {
    return holder_->next_token_logits(batch.at(predicted_tensor()));
  }
  std::string also_knows() const override {
    return "codes that the encoder draws for the sequence itself";
  }
};

Value call_mapper(BinaryMapperImpl& mapper, Arguments& arguments) {
  BinaryMapperCall call;
  call.temperature = arguments.number("temperature").value_or(call.temperature);
  call.straight_through = arguments.optional_flag("straight_through");
  call.calc_aux_loss = arguments.optional_flag("calc_aux_loss");
  const auto output = mapper.forward(arguments.required_tensor("logits"), call);
  return Value::list(std::vector<at::Tensor>{output.one_hot, output.aux_kl_loss});
}

}  // namespace

void register_free_transformer(ModelTypes& types) {
  types.add(
      {"FreeTransformer", TypeGroup::models, "a decoder that is told a latent code of each token"},
      model_type<FreeTransformerOptions>([](const FreeTransformerOptions& options) {
        return std::make_shared<FreeTransformerModel>(FreeTransformer(options));
      }));
  types.add(
      {"BinaryMapper", TypeGroup::feed_forward, "logits of bits into codes, with a gradient"},
      model_type<BinaryMapperOptions>([](const BinaryMapperOptions& options) {
        BinaryMapper mapper(options);
        const auto forward = [mapper](Arguments& arguments) mutable {
          return call_mapper(*mapper, arguments);
        };
        return model_of_methods("BinaryMapper", mapper.ptr(), {{"forward", forward}}, "logits");
      }));
}

}  // namespace x_transformers
