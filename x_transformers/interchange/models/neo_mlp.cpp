// NeoMLP and its random Fourier features in the interchange.
#include "x_transformers/models/neo_mlp.h"

#include <ATen/ATen.h>

#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/labelled_loss.h"
#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers {
namespace {

class NeoMLPModel : public HolderModel<NeoMLP> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("NeoMLP", method);
    const auto output = holder_->forward(arguments.required_tensor("x"));
    if (!arguments.flag("return_embeds")) return output.out;
    return Value::list(std::vector<Value>{
        output.out,
        Value::list(std::vector<at::Tensor>{output.input, output.hidden, output.output})});
  }

  bool forward_is_loss() const override { return false; }
  LossInputs loss_inputs(const std::set<std::string>&) override {
    const auto& o = holder_->options();
    auto inputs = answered_inputs({}, o.dim_out, "dim_out");
    inputs.tensors.push_back({.name = "x", .sizes = std::vector<int64_t>{o.dim_in}});
    return inputs;
  }

  /// Its nodes stand for tokens, however many are asked for.
  SampleCall sample_call(std::optional<int64_t>) override {
    const auto& o = holder_->options();
    SampleCall call;
    call.tokens = o.dim_in + o.dim_hidden + o.dim_out;
    call.inputs["x"] = at::zeros({1, o.dim_in});
    return call;
  }
};

}  // namespace

void register_neo_mlp(ModelTypes& types) {
  types.add(
      {"NeoMLP", TypeGroup::models, "a multilayer perceptron whose nodes attend to each other"},
      model_type<NeoMLPOptions>([](const NeoMLPOptions& options) {
        return std::make_shared<NeoMLPModel>(NeoMLP(options));
      }));
  types.add(
      {"RandomFourierEmbed", TypeGroup::positions, "cosines of random frequencies of a number"},
      model_type<RandomFourierEmbedOptions>([](const RandomFourierEmbedOptions& options) {
        RandomFourierEmbed embed(options);
        const auto forward = [embed](Arguments& arguments) mutable -> Value {
          return embed->forward(arguments.required_tensor("times"));
        };
        return model_of_methods("RandomFourierEmbed", embed.ptr(), {{"forward", forward}}, "times");
      }));
}

}  // namespace x_transformers
