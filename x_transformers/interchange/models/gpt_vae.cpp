// GPTVAE in the interchange.
#include "x_transformers/systems/gpt_vae.h"

#include <ATen/ATen.h>

#include "x_transformers/core/evaluation.h"
#include "x_transformers/interchange/generation_arguments.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/option_arguments.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

/// Ids of a sequence to be encoded, padding among it.
IdRange encoded_ids(const GPTVAEOptions& options) {
  return {options.num_tokens, "num_tokens", options.pad_id};
}

Value call_generate(GPTVAEImpl& model, Arguments& arguments) {
  auto inputs = take_generation_inputs(arguments, "prompts", *model.decoder());
  const auto options = take_options<GenerateOptions>(arguments);
  auto latents = arguments.tensor_or_numbers("latents");
  const auto seq = take_ids(arguments, "seq_for_latents", encoded_ids(model.options()));
  require(!latents.defined() || !seq.defined(), among({"latents", "seq_for_latents"}),
          "at most one of them");
  arguments.absent("prepend_embeds", "the latent stands in front");
  inputs.amateurs = take_amateurs(arguments, *model.decoder());
  inputs.net = take_transformer_inputs(arguments);
  require_in_range(inputs.net, *model.decoder()->net());
  take_without_effect_in_generation(arguments);
  if (seq.defined()) {
    const Evaluation evaluation(model);
    latents = model.encode_to_latents(seq).drawn;
  }
  return model.generate(std::move(inputs), options, latents);
}

Value call_encode(GPTVAEImpl& model, Arguments& arguments) {
  const auto seq = required_ids(arguments, "seq", encoded_ids(model.options()));
  const auto latents = model.encode_to_latents(seq);
  if (!arguments.flag("return_mean_log_var")) return latents.drawn;
  return Value::list(std::vector<Value>{
      latents.drawn, Value::list(std::vector<at::Tensor>{latents.mean, latents.log_var})});
}

class GPTVAEModel : public HolderModel<GPTVAE>, public TokenPredictor {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    if (method == "generate") return call_generate(*holder_, arguments);
    if (method == "encode_to_latents") return call_encode(*holder_, arguments);
    require_forward("GPTVAE", method);
    const auto range = encoded_ids(holder_->options());
    const auto tokens = required_ids(arguments, "seq", range);
    if (arguments.source() == ArgumentSource::outside)
      require_tokens_of_loss(tokens, "seq", *holder_->decoder());
    const auto losses = holder_->forward(tokens, take_ids(arguments, "seq_for_latents", range));
    if (!arguments.flag("return_all_losses")) return losses.total;
    return Value::list(std::vector<Value>{
        losses.total, Value::list(std::vector<at::Tensor>{losses.ar_loss, losses.vae_kl_loss})});
  }
  std::string first_argument() const override { return "seq"; }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq, holder_->options().max_seq_len);
    call.inputs["seq"] = at::zeros({1, call.tokens + more()}, at::kLong);
    return call;
  }

  LossUnit loss_unit() const override { return {"nats per token + divergence of latents"}; }

  std::optional<TokenTask> token_task() override {
    const auto& o = holder_->options();
    TokenTask task{.num_tokens = o.num_tokens,
                   .longest = o.max_seq_len - 1 + more(),
                   .limited_by = text("{} = {}{}", option("max_seq_len"), o.max_seq_len,
                                      more() ? "" : " less the token that only the loss needs")};
    task.ignored = o.pad_id;
    return task;
  }

  TokenWriter* writer() override { return holder_->decoder().get(); }
  void set_loss_chunk(int64_t rows) override { holder_->decoder()->set_loss_chunk(rows); }

  std::string predicted_tensor() const override { return "seq"; }
  at::Tensor next_token_logits(const TensorMap& batch) override {
    return holder_->next_token_logits(batch.at(predicted_tensor()));
  }
  std::shared_ptr<TokenModel> predicting_net() override { return holder_->decoder()->net(); }
  std::string also_knows() const override {
    return "the mean latent that the encoder makes of the sequence itself";
  }

 private:
  /// Tokens of a loss that the decoder does not see.
  int64_t more() { return holder_->decoder()->leaves_out_last() ? 1 : 0; }
};

}  // namespace

void register_gpt_vae(ModelTypes& types) {
  types.add(
      {"GPTVAE", TypeGroup::models, "a decoder that is told a latent code of the whole sequence"},
      model_type<GPTVAEOptions>([](const GPTVAEOptions& options) {
        return std::make_shared<GPTVAEModel>(GPTVAE(options));
      }));
}

}  // namespace x_transformers
