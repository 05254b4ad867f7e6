// A model class of one's own: registered by a name, it is built from model files, trained with
// checkpoints, metrics and a loss curve, and resumed, as the library's own classes are.
#include <ATen/ATen.h>

#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "examples/example.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/train/process.h"
#include "x_transformers/train/train_model.h"

using namespace x_transformers;

namespace {

struct SetMedianOptions {
  AttentionLayersOptions attn_layers;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("attn_layers", attn_layers, "the stack that the numbers go through: an Encoder");
  }
};

/// Learns the median of a set of numbers: x [b, n] -> [b].
class SetMedianImpl : public torch::nn::Module {
 public:
  explicit SetMedianImpl(const SetMedianOptions& options)
      : in_(register_module("in", Linear(1, options.attn_layers.dim))),
        layers_(register_module("layers", AttentionLayers(options.attn_layers))),
        out_(register_module("out", Linear(options.attn_layers.dim, 1))) {}

  at::Tensor forward(const at::Tensor& x) {
    AttentionLayersInputs inputs;
    inputs.x = in_->forward(x.unsqueeze(-1));
    return out_->forward(layers_->forward(inputs).out.mean(1)).squeeze(-1);
  }

 private:
  Linear in_;
  AttentionLayers layers_;
  Linear out_;
};
TORCH_MODULE(SetMedian);

/// The class as programs see it. A forward that gives one number is what training minimises.
class SetMedianModel : public HolderModel<SetMedian> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("SetMedian", method);
    const auto predicted = holder_->forward(arguments.required_tensor("x"));
    const auto median = arguments.tensor("median");
    return median.defined() ? (predicted - median).square().mean() : predicted;
  }
  LossUnit loss_unit() const override { return {"mean square error"}; }
};

void register_set_median() {
  register_model_type("SetMedian",
                      model_type<SetMedianOptions>([](const SetMedianOptions& options) {
                        return std::make_shared<SetMedianModel>(SetMedian(options));
                      }));
}

}  // namespace

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);
  register_set_median();

  const auto folder = example::fresh_folder("95_own_model");
  const auto data = (folder / "data.safetensors").string();
  const auto numbers = at::rand({line.is_small() ? 64 : 4096, 9});
  save_safetensors(data, {{"x", numbers}, {"median", std::get<0>(numbers.median(-1))}});

  const int steps = line.is_small() ? 2 : 500;

  const nlohmann::json stack = {{"type", "Encoder"}, {"dim", 32}, {"depth", 2}, {"heads", 4}};
  const auto run = parse_run_options(
      {{"model", {{"type", "SetMedian"}, {"attn_layers", stack}}},
       {"data", {{"path", data}, {"format", "tensors"}, {"batch_size", 32}, {"val_fraction", 0.1}}},
       {"train", {{"steps", steps}, {"learning_rate", 2e-3}, {"seed", 1}}}},
      "run");
  set_up_process(run.train);
  const auto result = train_model(run, folder / "run", /*resume=*/false);
  std::cout << "mean square error: " << result.best_val_loss.value() << "\n";
  return 0;
}
