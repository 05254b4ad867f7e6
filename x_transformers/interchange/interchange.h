// Models by the names of their Python classes: JSON in, tensors by name in and out.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/interchange/arguments.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

struct OptionHelp;

/// A model that can be called with named arguments.
class Model {
 public:
  virtual ~Model() = default;
  virtual torch::nn::Module& module() = 0;
  /// `method` is forward, generate or beam_search. InputError where the model has no such method.
  virtual Value call(const std::string& method, Arguments& arguments) = 0;
};

/// Builds the model that `config` describes ("type" and the arguments of its constructor).
/// InputError names `where` and the path below it, what was expected, and the nearest known name.
std::shared_ptr<Model> build_model(const nlohmann::json& config,
                                   const std::string& where = "config");

/// Calls a model and returns its results flattened (`out`, `out.0`, ...). With `grads` the first
/// result is differentiated (if it is not a scalar: the mean of the squares of the first floating
/// one), and the gradients come as `grad.<parameter>`. `mode` is forward or generate; the argument
/// `method` names another method.
TensorMap run_model(Model& model, const std::string& mode, const TensorMap& inputs,
                    const nlohmann::json& kwargs, bool grads);

/// What run_model takes gradients of, with its graph: the loss of a training step. With
/// a `source` that has looked at the ids among the inputs, nothing waits for the device.
at::Tensor run_objective(Model& model, const TensorMap& inputs, const nlohmann::json& kwargs,
                         ArgumentSource source = ArgumentSource::outside);

/// Throws InputError unless the "type" of `config`, where it has one, is `type`. Of a Python class
/// that no type here stands for it says that it is not built yet.
void require_type(const nlohmann::json& config, const std::string& type, const OptionPath& where);

/// The types that build_model knows, by name.
std::vector<std::string> model_types();

/// The options of a type: name, type, default, meaning, paper. InputError for an unknown type.
std::vector<OptionHelp> model_options(const std::string& type);

}  // namespace x_transformers
