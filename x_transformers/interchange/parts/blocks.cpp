// Activations, and what is wrapped around another module (`fn`), in the interchange.
#include <ATen/ATen.h>

#include "x_transformers/interchange/parts/around_fn.h"
#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/nn/activations.h"
#include "x_transformers/nn/blocks.h"
#include "x_transformers/nn/concat_combine.h"
#include "x_transformers/nn/glu.h"

namespace x_transformers {
namespace {

/// Any model as a block, under its own names.
class ModelBlock : public Block {
 public:
  ModelBlock(const ModuleSpec& spec, const Compat& compat) : type_(spec.type) {
    auto config = Json::parse(spec.arguments);
    config["type"] = spec.type;
    model_ = build_part(config, {"fn", compat});
    auto& inner = model_->module();
    for (const auto& child : inner.named_children()) register_module(child.key(), child.value());
    for (const auto& parameter : inner.named_parameters(/*recurse=*/false)) {
      register_parameter(parameter.key(), parameter.value(), parameter.value().requires_grad());
    }
    for (const auto& buffer : inner.named_buffers(/*recurse=*/false))
      register_buffer(buffer.key(), buffer.value());
  }

  void train(bool on = true) override {
    Block::train(on);
    model_->module().train(on);
  }

  /// The arguments of the next run other than x, and than those that were taken before.
  void take(Arguments& arguments, bool with_condition) {
    given_ = take_beside_x(arguments, with_condition);
  }

  BranchOutput run(const BranchInputs& inputs) override {
    const auto results = call_forward(*model_, inputs.x, given_);
    require(results.size() == 1, at("fn"), "expected a module that returns one tensor, got {}",
            type_);
    BranchOutput output;
    output.out = results[0].second;
    return output;
  }

 private:
  std::string type_;
  std::shared_ptr<Model> model_;
  TensorMap given_;
};

/// A block around `fn`; `condition` is the block's own.
std::shared_ptr<MethodsModel> wrapped_part(const std::string& type,
                                           const std::shared_ptr<Block>& block,
                                           const std::shared_ptr<ModelBlock>& fn,
                                           bool takes_condition = false) {
  return model_of_methods(type, block,
                          {{"forward", [block, fn, takes_condition](Arguments& arguments) -> Value {
                              BranchInputs inputs;
                              inputs.x = arguments.required_tensor("x");
                              inputs.mask = arguments.mask("mask");
                              if (takes_condition)
                                inputs.condition = arguments.required_tensor("condition");
                              fn->take(arguments, !takes_condition);
                              return block->run(inputs).out;
                            }}});
}

template <class M>
std::shared_ptr<MethodsModel> function_part(const std::string& type,
                                            const std::shared_ptr<M>& module,
                                            const char* argument = "x") {
  return model_of_methods(type, module,
                          {{"forward",
                            [module, argument](Arguments& arguments) -> Value {
                              return module->forward(arguments.required_tensor(argument));
                            }}},
                          argument);
}

std::shared_ptr<MethodsModel> concat_combine_part(const ConcatCombineOptions& options) {
  const auto combine = std::make_shared<ConcatCombine>(options);
  return model_of_methods("ConcatCombine", combine,
                          {{"forward", [combine, options](Arguments& arguments) -> Value {
                              const auto x = arguments.required_tensor("x");
                              const auto layers = arguments.tensors("prev_layers");
                              const auto count = static_cast<int64_t>(layers.size());
                              // As in Python, a negative index counts from the last layer.
                              auto index = options.prev_layer_ind;
                              if (index < 0) index += count;
                              require(index >= 0 && index < count, at("prev_layers"),
                                      "expected layer {} among them, got {} layers",
                                      options.prev_layer_ind, count);
                              return combine->forward(x, layers[index]);
                            }}});
}

void register_activations(ModelTypes& types) {
  register_part<NoOptions>(
      types, {"ReluSquared", TypeGroup::feed_forward, "the square of ReLU"}, [](const NoOptions&) {
        return function_part("ReluSquared", make_activation(Activation::relu_squared));
      });
  register_part<NoOptions>(
      types, {"Identity", TypeGroup::feed_forward, "what comes in goes out"}, [](const NoOptions&) {
        return function_part("Identity", make_activation(ModuleSpec{"Identity"}), "t");
      });
  register_part<DimOptions>(types,
                            {"SoLU", TypeGroup::feed_forward,
                             "softmax linear unit: each feature weighted by their softmax"},
                            [](const DimOptions& options) {
                              require_size(options.dim, "dim");
                              return function_part("SoLU", std::make_shared<SoLU>(options.dim));
                            });
  register_part<GLUOptions>(types, {"GLU", TypeGroup::feed_forward, "a gated linear unit"},
                            [](const GLUOptions& options) {
                              return function_part("GLU", std::make_shared<GLU>(options));
                            });
}

/// Makes a block that is wrapped around another module known as `type`.
template <class Wrapping, class Options>
void register_wrapping(ModelTypes& types, const TypeHelp& type, bool takes_condition = false) {
  register_part<AroundFn<Options>>(
      types, type, [name = type.name, takes_condition](const AroundFn<Options>& options) {
        const auto fn = std::make_shared<ModelBlock>(options.fn, options.compat);
        return wrapped_part(name, std::make_shared<Wrapping>(options, fn), fn, takes_condition);
      });
}

}  // namespace

void register_blocks(ModelTypes& types) {
  register_activations(types);
  register_wrapping<Scale, ScaleOptions>(
      types, {"Scale", TypeGroup::residuals, "a layer's output times a number"});
  register_wrapping<ShiftTokens, ShiftTokensOptions>(
      types,
      {"ShiftTokens", TypeGroup::residuals, "features of earlier tokens, moved to this one"});
  register_wrapping<LayerScale, LayerScaleOptions>(
      types, {"LayerScale", TypeGroup::residuals,
              "a learned factor for each feature of a layer's output"});
  register_wrapping<AdaptiveLayerScale, AdaptiveLayerScaleOptions>(
      types, {"AdaptiveLayerScale", TypeGroup::residuals, "such a factor that a condition sets"},
      /*takes_condition=*/true);
  register_part<ConcatCombineOptions>(types,
                                      {"ConcatCombine", TypeGroup::residuals,
                                       "a skip from an earlier layer, concatenated and projected"},
                                      concat_combine_part);
}

}  // namespace x_transformers
