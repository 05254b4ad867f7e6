#include "x_transformers/interchange/interchange.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/json.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/types_to_come.h"
#include "x_transformers/io/state_dict.h"

namespace x_transformers {
namespace {

const ModelTypes& types() {
  static const ModelTypes all = [] {
    ModelTypes registered;
    register_layers(registered);
    register_models(registered);
    register_parts(registered);
    register_as_callables(registered);
    return registered;
  }();
  return all;
}

const ModelType& find_type(const std::string& name, const std::string& where) {
  const auto found = types().find(name);
  if (found == types().end()) {
    require(!types_to_come().count(name), where + ": " + name + ": not built yet");
    throw InputError(where + ": unknown type '" + name + "'" +
                     detail::nearest_hint(name, model_types()));
  }
  return found->second;
}

/// What gradients are taken of: the first result, if a scalar, else the mean square of the first
/// floating one.
at::Tensor objective(const std::vector<std::pair<std::string, at::Tensor>>& results) {
  require(!results.empty(), "grads: the call has no result");
  if (results[0].second.dim() == 0) return results[0].second;
  for (const auto& [name, tensor] : results) {
    if (tensor.is_floating_point()) return tensor.to(at::kFloat).square().mean();
  }
  throw InputError("grads: the call has no floating-point result");
}

}  // namespace

void require_forward(const std::string& type, const std::string& method) {
  require(method == "forward", type + ": has no method '" + method + "'");
}

void require_type(const Json& config, const std::string& type, const std::string& where) {
  if (!config.is_object() || !config.contains("type")) return;
  const auto& given = config["type"];
  if (!given.is_string()) detail::wrong_type(where + ".type", "the name of a class", given);
  const auto name = given.get<std::string>();
  require(!types_to_come().count(name), fmt::format("{}.type: {}: not built yet", where, name));
  require(name == type, fmt::format("{}.type: expected {}, got '{}'", where, type, name));
}

std::shared_ptr<Model> build_model(const Json& config, const std::string& where) {
  if (!config.is_object()) detail::wrong_type(where, "an object with a type", config);
  const auto type = config.find("type");
  require(type != config.end() && type->is_string(), where + ".type: expected the name of a class");
  return find_type(type->get<std::string>(), where + ".type").build(config, where);
}

TensorMap run_model(Model& model, const std::string& mode, const TensorMap& inputs,
                    const Json& kwargs, bool grads) {
  require(mode == "forward" || mode == "generate",
          "mode: expected forward or generate, got '" + mode + "'");
  Arguments arguments(inputs, kwargs);
  const auto method =
      mode == "generate" ? arguments.text("method").value_or("generate") : "forward";
  const at::AutoGradMode records(grads);
  const auto results = model.call(method, arguments).flatten();
  arguments.finish();
  TensorMap out;
  if (grads) {
    model.module().zero_grad();
    const auto target = objective(results);
    if (target.requires_grad()) target.backward();
    for (const auto& [name, parameter] : state_dict(model.module())) {
      if (parameter.grad().defined()) out["grad." + name] = parameter.grad().detach().contiguous();
    }
  }
  for (const auto& [name, tensor] : results) out[name] = tensor.detach().contiguous();
  return out;
}

at::Tensor run_objective(Model& model, const TensorMap& inputs, const Json& kwargs,
                         ArgumentSource source) {
  Arguments arguments(inputs, kwargs, source);
  const auto results = model.call("forward", arguments).flatten();
  arguments.finish();
  return objective(results);
}

std::vector<std::string> model_types() {
  std::vector<std::string> names;
  for (const auto& [name, type] : types()) names.push_back(name);
  return names;
}

std::vector<OptionHelp> model_options(const std::string& type) {
  return find_type(type, "options").help();
}

}  // namespace x_transformers
