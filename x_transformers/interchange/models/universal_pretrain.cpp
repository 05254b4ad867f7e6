// UniversalPretrainWrapper and SyntheticDataGenerator in the interchange.
#include "x_transformers/wrappers/universal_pretrain.h"

#include <ATen/ATen.h>

#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/interchange/token_predictor.h"

namespace x_transformers {
namespace {

constexpr const char* kGenerator = "SyntheticDataGenerator";

/// The arguments of Python's constructor.
struct UniversalPretrainArguments : UniversalPretrainWrapperOptions {
  ModuleSpec model = {"TransformerWrapper"};
  std::optional<ModuleSpec> data_generator = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("model", model, "what is trained: a TransformerWrapper", "arXiv:2506.20057");
    v("data_generator", data_generator,
      "a SyntheticDataGenerator; default: an LSTM of the model's tokens and features");
    UniversalPretrainWrapperOptions::fields(v);
  }
};

class GeneratorModel : public HolderModel<SyntheticDataGenerator> {
 public:
  using HolderModel::HolderModel;

  const SyntheticDataGenerator& generator() const { return holder_; }

  Value call(const std::string& method, Arguments& arguments) override {
    const IdRange range{holder_->options().num_tokens, "num_tokens"};
    if (method == "generate") {
      const auto length = arguments.required_integer("length");
      const auto temperature = arguments.number("temperature");
      const auto seed = take_ids(arguments, "seed", range);
      const auto condition = take_ids(arguments, "condition", range);
      return holder_->generate(length, seed, condition,
                               temperature.value_or(SyntheticDataGeneratorImpl::kTemperature));
    }
    require_forward(kGenerator, method);
    auto hiddens =
        arguments.has("hiddens.0") ? arguments.tensors("hiddens") : std::vector<at::Tensor>{};
    const auto one = arguments.tensor("hiddens");
    if (one.defined()) hiddens = {one};
    const auto output = holder_->forward(required_ids(arguments, "input", range), hiddens);
    const auto state =
        output.hiddens.size() == 1 ? Value(output.hiddens[0]) : Value::list(output.hiddens);
    return Value::list(std::vector<Value>{output.logits, state});
  }
  std::string first_argument() const override { return "input"; }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>&) override {
    return {.unsupported =
                "a SyntheticDataGenerator has no loss: it is never trained, and a "
                "UniversalPretrainWrapper draws data from it"};
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq, holder_->options().max_seq_len);
    call.inputs["input"] = at::zeros({1, call.tokens}, at::kLong);
    return call;
  }
};

/// In training it learns from what it computes itself, whatever the batch. In evaluation the loss
/// is that of the batch: how far what it has learnt carries over to data.
class UniversalPretrainModel : public HolderModel<UniversalPretrainWrapper>, public TokenPredictor {
 public:
  UniversalPretrainModel(const std::shared_ptr<Model>& model,
                         const UniversalPretrainWrapperOptions& options,
                         const SyntheticDataGenerator& generator)
      : HolderModel(UniversalPretrainWrapper(model->token_model(), options, generator)),
        language_model_(wrap_net(model)) {}

  Value call(const std::string& method, Arguments&) override {
    require_forward("UniversalPretrainWrapper", method);
    return holder_->forward();
  }

  SampleCall sample_call(std::optional<int64_t>) override {
    SampleCall call;
    call.tokens = holder_->options().seq_len;
    return call;
  }

  at::Tensor loss(const TensorMap& batch) override {
    return holder_->is_training() ? holder_->forward() : language_model_->loss(batch);
  }
  LossUnit loss_unit() const override { return language_model_->loss_unit(); }
  void set_loss_chunk(int64_t rows) override { language_model_->set_loss_chunk(rows); }
  std::optional<TokenTask> token_task() override {
    const auto own = spelled_by([](const OptionPath& path) {
      return path.empty() || path.front() != "net" ? path : path.with_front("model");
    });
    auto task = spelled(own, [&] { return language_model_->token_task(); });
    if (task) task = respelled(*task, own);
    return task;
  }
  TokenWriter* writer() override { return holder_->ar_wrapped().get(); }
  std::shared_ptr<TokenModel> token_model() override { return language_model_->token_model(); }

  std::string predicted_tensor() const override { return language_model_->predicted_tensor(); }
  at::Tensor next_token_logits(const TensorMap& batch) override {
    return predictor_of(*language_model_).next_token_logits(batch);
  }
  std::shared_ptr<TokenModel> predicting_net() override { return token_model(); }

 private:
  std::shared_ptr<Model> language_model_;
};

}  // namespace

void register_universal_pretrain(ModelTypes& types) {
  types.add(
      {kGenerator, TypeGroup::models, "a recurrent network of random weights that makes sequences"},
      model_type<SyntheticDataGeneratorOptions>([](const SyntheticDataGeneratorOptions& options) {
        return std::make_shared<GeneratorModel>(SyntheticDataGenerator(options));
      }));
  types.add({"UniversalPretrainWrapper", TypeGroup::objectives,
             "what random networks write, to pretrain on no data"},
            model_type<UniversalPretrainArguments>([](const UniversalPretrainArguments& options,
                                                      const Json& config, const ModelPlace& place) {
              const auto model = build_net(config, "model", place);
              SyntheticDataGenerator generator = nullptr;
              if (options.data_generator) {
                generator =
                    build_net_of<GeneratorModel>(config, "data_generator", place, kGenerator)
                        ->generator();
              }
              return within(place.where, [&] {
                return std::make_shared<UniversalPretrainModel>(model, options, generator);
              });
            }));
}

}  // namespace x_transformers
