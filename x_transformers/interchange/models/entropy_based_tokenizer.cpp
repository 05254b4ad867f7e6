// EntropyBasedTokenizer in the interchange.
#include "x_transformers/wrappers/entropy_based_tokenizer.h"

#include <ATen/ATen.h>

#include "x_transformers/core/rules.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

/// The arguments of Python's constructor.
struct TokenizerArguments : EntropyBasedTokenizerOptions {
  ModuleSpec decoder = {"TransformerWrapper"};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("decoder", decoder, "the small model, such as a TransformerWrapper");
    EntropyBasedTokenizerOptions::fields(v);
  }
};

constexpr const char* kDecoderKwargs = "decoder_forward_kwargs";

/// What the decoder takes beside x, as tensors and as a JSON object.
TransformerInputs take_decoder_inputs(Arguments& arguments, const TokenModel& decoder) {
  const auto tensors = arguments.tensors_by_key(kDecoderKwargs);
  const auto* values = arguments.json(kDecoderKwargs);
  Arguments own(TensorMap(tensors.begin(), tensors.end()), values ? *values : Json::object(),
                arguments.source(), arguments.compat());
  auto inputs = take_transformer_inputs(own);
  require_in_range(inputs, decoder);
  return spelled(below(kDecoderKwargs), [&] {
    own.finish();
    return inputs;
  });
}

class TokenizerModel : public HolderModel<EntropyBasedTokenizer> {
 public:
  TokenizerModel(std::shared_ptr<Model> decoder, const EntropyBasedTokenizerOptions& options)
      : HolderModel(EntropyBasedTokenizer(decoder->token_model(), options)),
        decoder_(std::move(decoder)) {}

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("EntropyBasedTokenizer", method);
    const auto& net = *holder_->decoder();
    const auto seq = as_tokens(arguments.required_tensor("seq"), "seq", arguments, net);
    if (arguments.source() == ArgumentSource::outside)
      require_in_range(seq, "seq", token_range(net));
    const auto lens = arguments.tensor_or_integers("lens");
    const bool return_segments = arguments.flag("return_segmented_seq");
    const auto inputs = take_decoder_inputs(arguments, net);
    if (!return_segments) return holder_->forward(seq, lens, inputs);
    std::vector<Value> rows;
    for (const auto& row : holder_->segment(seq, lens, inputs)) rows.push_back(Value::list(row));
    return seq.dim() == 1 ? rows.at(0) : Value::list(std::move(rows));
  }
  std::string first_argument() const override { return "seq"; }

  std::optional<TokenTask> token_task() override {
    require(false, at("type"), "an EntropyBasedTokenizer learns nothing; train its {} alone",
            option("decoder"));
    return std::nullopt;
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    const auto of_decoder = decoder_->sample_call(seq);
    SampleCall call;
    call.tokens = of_decoder.tokens;
    for (const auto& [name, tensor] : of_decoder.inputs)
      call.inputs[name == decoder_->first_argument() ? "seq"
                                                     : std::string(kDecoderKwargs) + "." + name] =
          tensor;
    call.kwargs = Json{{kDecoderKwargs, Json::parse(of_decoder.kwargs)}}.dump();
    return call;
  }

 private:
  std::shared_ptr<Model> decoder_;
};

}  // namespace

void register_entropy_based_tokenizer(ModelTypes& types) {
  types.add({"EntropyBasedTokenizer", TypeGroup::objectives,
             "cuts text where a model of bytes is unsure"},
            model_type<TokenizerArguments>(
                [](const TokenizerArguments& options, const Json& config, const ModelPlace& place) {
                  const auto decoder = build_net(config, "decoder", place);
                  return within(place.where, [&]() -> std::shared_ptr<Model> {
                    return std::make_shared<TokenizerModel>(decoder, options);
                  });
                }));
}

}  // namespace x_transformers
