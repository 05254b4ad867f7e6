// Types of the interchange as modules given as values, and modules given as values as types.
#include "x_transformers/interchange/parts/around_fn.h"
#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/nn/block_options.h"
#include "x_transformers/nn/callable_types.h"
#include "x_transformers/nn/fold_axially.h"

namespace x_transformers {
namespace {

/// `input` is what the module's forward calls x in Python.
std::shared_ptr<MethodsModel> callable_part(const std::string& type, const CallableModule& callable,
                                            const std::string& input) {
  return model_of_methods(
      type, callable.module,
      {{"forward",
        [callable, input](Arguments& arguments) -> Value {
          const auto x = arguments.required_tensor(input);
          const auto result = callable.call(x, take_beside_x(arguments));
          if (!result.hidden.defined()) return result.out;
          return Value::list(std::vector<at::Tensor>{result.out, result.hidden});
        }}},
      input);
}

template <class OptionsType>
void register_callable_part(ModelTypes& types, const TypeHelp& type, const std::string& input,
                            CallableModule (*make)(const OptionsType&)) {
  register_part<OptionsType>(types, type,
                             [name = type.name, input, make](const OptionsType& options) {
                               return callable_part(name, make(options), input);
                             });
}

}  // namespace

std::map<std::string, at::Tensor> take_beside_x(Arguments& arguments, bool with_condition) {
  std::map<std::string, at::Tensor> given;
  for (const char* name :
       {"hx", "deep_embed", "mask", "context", "context_mask", "attn_mask", "attn_bias"}) {
    if (const auto tensor = arguments.tensor(name); tensor.defined()) given[name] = tensor;
  }
  if (!with_condition) return given;
  if (const auto tensor = arguments.tensor("condition"); tensor.defined())
    given["condition"] = tensor;
  return given;
}

CallableModule model_callable(const ModuleSpec& spec, const Compat& compat) {
  auto config = Json::parse(spec.arguments);
  config["type"] = spec.type;
  const auto model = build_part(config, {{}, compat});
  CallableModule callable = {
      model->module().shared_from_this(),
      [model, type = spec.type](const at::Tensor& x, const CallableModule::NamedTensors& given) {
        const auto results = call_forward(*model, x, TensorMap(given.begin(), given.end()));
        require(!results.empty(), at(type + ":"), "returns nothing");
        return CallableModule::Result{results[0].second,
                                      results.size() > 1 ? results[1].second : at::Tensor()};
      }};
  callable.draws = true;  // it may, by an option of its own
  return callable;
}

void register_callables(ModelTypes& types) {
  register_callable_part(types, {"Linear", TypeGroup::feed_forward, "a linear layer"}, "input",
                         make_linear);
  register_callable_part(types,
                         {"Embedding", TypeGroup::positions, "a table of vectors (torch.nn)"},
                         "input", make_embedding);
  register_callable_part(
      types, {"Softmax", TypeGroup::feed_forward, "the softmax over the last dimension"}, "input",
      make_softmax);
  register_callable_part(types, {"GRU", TypeGroup::feed_forward, "a gated recurrent unit"}, "input",
                         make_gru);
  register_callable_part(types,
                         {"LSTM", TypeGroup::feed_forward, "a recurrent layer with long memory"},
                         "input", make_lstm);
  register_callable_part(types, {"RNN", TypeGroup::feed_forward, "a plain recurrent layer"},
                         "input", make_rnn);
  register_callable_part(
      types, {"Dropout", TypeGroup::feed_forward, "zeroes features at random in training"}, "input",
      make_dropout);
  register_callable_part(types, {"LayerNorm", TypeGroup::norms, "zero mean and unit variance"}, "x",
                         make_layer_norm);
  register_callable_part(types, {"RMSNorm", TypeGroup::norms, "unit root mean square, with a gain"},
                         "x", make_rms_norm);
  register_callable_part(types,
                         {"ScaleNorm", TypeGroup::norms, "unit length times one learned number"},
                         "x", make_scale_norm);
  register_callable_part(
      types, {"MinGRU", TypeGroup::feed_forward, "a GRU that runs in parallel over the sequence"},
      "x", make_min_gru);
  register_callable_part(
      types,
      {"CausalConv1d", TypeGroup::feed_forward, "a convolution that sees earlier tokens only"}, "x",
      make_causal_conv1d);
  using FoldAxially = AroundFn<FoldAxiallyOptions>;
  register_part<FoldAxially>(
      types,
      {"FoldAxially", TypeGroup::attention, "runs a module over a sequence folded into rows"},
      [](const FoldAxially& options) {
        return callable_part(
            "FoldAxially",
            fold_axially(options.axial_dim,
                         within("fn", [&] { return make_callable(options.fn, options.compat); })),
            "x");
      });
}

}  // namespace x_transformers
