// XTransformer in the interchange.
#include "x_transformers/systems/x_transformer.h"

#include <ATen/ATen.h>

#include <utility>

#include "x_transformers/interchange/generation_arguments.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/option_arguments.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

Value call_x_transformer(XTransformerImpl& model, const std::string& method, Arguments& arguments) {
  if (method == "generate") {
    const auto seq_in =
        as_tokens(arguments.required_tensor("seq_in"), "seq_in", arguments, *model.encoder());
    XTransformerInputs inputs;
    take_inputs(arguments, inputs, {"src_prepend_embeds"});
    auto generation = take_generation_inputs(arguments, "seq_out_start", *model.decoder());
    require_in_range(seq_in, "seq_in", token_range(*model.encoder()));
    return model.generate(seq_in, generation, take_options<GenerateOptions>(arguments), inputs);
  }
  require_forward("XTransformer", method);
  const auto src = as_tokens(arguments.required_tensor("src"), "src", arguments, *model.encoder());
  const auto tgt =
      as_tokens(arguments.required_tensor("tgt"), "tgt", arguments, *model.decoder()->net());
  XTransformerInputs inputs;
  take_inputs(arguments, inputs);
  if (arguments.source() == ArgumentSource::outside) {
    require_in_range(src, "src", token_range(*model.encoder()));
    require_tokens_of_loss(tgt, "tgt", *model.decoder());
  }
  return model.forward(src, tgt, inputs).loss;
}

class XTransformerModel : public HolderModel<XTransformer>, public TokenPredictor {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    return call_x_transformer(*holder_, method, arguments);
  }

  TranslationWriter* translation_writer() override { return holder_.get(); }
  void set_loss_chunk(int64_t rows) override { holder_->decoder()->set_loss_chunk(rows); }

  std::string predicted_tensor() const override { return "tgt"; }
  std::string source_tensor() const override { return "src"; }
  at::Tensor next_token_logits(const TensorMap& batch) override {
    XTransformerInputs inputs;
    const auto mask = batch.find("mask");
    if (mask != batch.end()) inputs.mask = mask->second;
    return holder_->forward(batch.at(source_tensor()), batch.at(predicted_tensor()), inputs).logits;
  }
  std::shared_ptr<TokenModel> predicting_net() override { return holder_->decoder()->net(); }
  std::string also_knows() const override { return "the source"; }

  LossUnit loss_unit() const override { return nats_per_token(); }

  LossInputs loss_inputs(const std::set<std::string>&) override {
    auto& decoder = *holder_->decoder();
    auto src = token_input(*holder_->encoder(), "src", /*are_targets=*/false, 0, "enc_");
    auto tgt = token_input(*decoder.net(), "tgt", /*are_targets=*/true,
                           decoder.leaves_out_last() ? 1 : 0, "dec_");
    tgt.ignored = decoder.options().ignore_index;
    tgt.shortest = 2;
    LossInput mask{.name = "mask", .kind = LossInputKind::mask, .is_needed = false};
    return {.tensors = {std::move(src), std::move(tgt), std::move(mask)}};
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    auto& decoder = holder_->decoder();
    SampleCall call;
    call.tokens = sample_tokens(seq, decoder->max_seq_len());
    const auto src = sample_tokens(seq, holder_->encoder()->traits().max_seq_len);
    call.inputs["src"] = at::zeros({1, src}, at::kLong);
    // The loss of the last token may need one more, which the decoder does not see.
    const auto more = decoder->leaves_out_last() ? 1 : 0;
    call.inputs["tgt"] = at::zeros({1, call.tokens + more}, at::kLong);
    return call;
  }
};

}  // namespace

void register_x_transformer(ModelTypes& types) {
  types.add(
      {"XTransformer", TypeGroup::models, "encoder and decoder: one sequence in, another out"},
      model_type<XTransformerOptions>([](const XTransformerOptions& options) {
        return std::make_shared<XTransformerModel>(XTransformer(options));
      }));
}

}  // namespace x_transformers
