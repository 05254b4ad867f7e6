// Models by the names of their Python classes: JSON in, tensors by name in and out.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/interchange/arguments.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

struct OptionHelp;
struct WeightSelection;

/// Builds the model that `config` describes ("type" and the arguments of its constructor).
/// InputError names `where` and the path below it, what was expected, and the nearest known name.
std::shared_ptr<Model> build_model(const nlohmann::json& config,
                                   const OptionPath& where = "config");

/// Copies the weights of a file (load_model_weights) into a model, as the model's release of Python
/// means them, and returns them by its names. InputError, which names the file, where they do not
/// fit, are not finite, or have another meaning with the model's options (release_rules.h).
TensorMap load_weights(Model& model, const std::filesystem::path& path,
                       const WeightSelection& selection);
TensorMap load_weights(Model& model, const std::filesystem::path& path);

/// Calls a model and returns its results flattened (`out`, `out.0`, ...). With `grads` the first
/// result is differentiated (if it is not a scalar: the mean of the squares of the first floating
/// one), and the gradients come as `grad.<parameter>`. `mode` is forward or generate; the argument
/// `method` names another method.
TensorMap run_model(Model& model, const std::string& mode, const TensorMap& inputs,
                    const nlohmann::json& kwargs, bool grads);

/// What forward returns, flattened, of `x`, its argument that callers give by position, and `rest`
/// by name: for a model that is a part of another, which has looked at the ids.
std::vector<std::pair<std::string, at::Tensor>> call_forward(Model& model, const at::Tensor& x,
                                                             TensorMap rest = {});

/// What run_model takes gradients of, with its graph, for who measures a step. With a `source` that
/// has looked at the ids among the inputs, nothing waits for the device.
at::Tensor run_objective(Model& model, const TensorMap& inputs, const nlohmann::json& kwargs,
                         ArgumentSource source = ArgumentSource::outside);

/// Whether the model that `config` describes is a net over tokens, for wrappers to take.
bool is_net(const nlohmann::json& config);
/// The wrapper that trains `net`, around it: for a net that is given without one.
std::shared_ptr<Model> wrap_net(std::shared_ptr<Model> net);
/// The config of that wrapper, around the net that `config` describes.
nlohmann::json wrapped_net(const nlohmann::json& config);

/// The valid `config` with every option of the model and of the models within it, each spelled in
/// one way: equal for equal models.
nlohmann::json spell_out(const nlohmann::json& config);
/// Where in it stand options that weights do not depend on, so that a run may go on with other
/// values (FieldInfo::is_free), as JSON pointers. What stands below one of them is free as well.
std::set<std::string> free_options(const nlohmann::json& config);

/// The types that build_model knows, by name.
std::vector<std::string> model_types();

/// The options of a type: name, type, default, meaning, paper. InputError for an unknown type.
std::vector<OptionHelp> model_options(const std::string& type);

}  // namespace x_transformers
