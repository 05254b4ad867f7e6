#include "x_transformers/interchange/interchange.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/interchange/release_rules.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"

namespace x_transformers {
namespace {

/// What gradients are taken of: the first result, if a scalar, else the mean square of the first
/// floating one.
at::Tensor objective(const std::vector<std::pair<std::string, at::Tensor>>& results) {
  require(!results.empty(), at("forward"), "has no result to minimise");
  if (results[0].second.dim() == 0) return results[0].second;
  for (const auto& [name, tensor] : results) {
    if (tensor.is_floating_point()) return tensor.to(at::kFloat).square().mean();
  }
  throw InputError(
      Notice{at("forward"), "has no floating-point result to minimise, so nothing can be trained"});
}

/// An option that a module within `model` names by its own name, as the model's file has it: where
/// the one option of that name stands. Arguments of the call, and what several models have, stay.
OptionPath in_file(const OptionPath& path, const Model& model, const Arguments& arguments) {
  if (path.empty() || path != path.within_file() || arguments.is_argument(path.front()))
    return path;
  std::vector<OptionPath> found;
  for (const auto& place : model.option_places()) {
    const auto &names = place.names(), &asked = path.names();
    const bool ends_so =
        names.size() >= asked.size() && std::equal(asked.rbegin(), asked.rend(), names.rbegin());
    if (!ends_so) continue;
    if (names.size() == asked.size()) return path;
    found.push_back(place);
  }
  return found.size() == 1 ? found.front() : path;
}

/// What the call returns. An error names options as the model's file does, and says where a tensor
/// has another name than the model asks for; a failure by numbers that were given is the caller's
/// to mend.
std::vector<std::pair<std::string, at::Tensor>> called(Model& model, const std::string& method,
                                                       Arguments& arguments) {
  try {
    return model.call(method, arguments).flatten();
  } catch (const InputError& error) {
    auto notice = error.notice();
    if (notice.hint.empty()) notice.hint = arguments.misnamed(notice);
    throw InputError(
        respelled(notice, [&](const OptionPath& path) { return in_file(path, model, arguments); }));
  } catch (const RunError&) {
    arguments.require_finite();
    throw;
  }
}

}  // namespace

TensorMap load_weights(Model& model, const std::filesystem::path& path,
                       const WeightSelection& selection) {
  auto& module = model.module();
  return load_weights(module, model.compat(), path, selection, release_rules(module));
}

TensorMap load_weights(Model& model, const std::filesystem::path& path) {
  return load_weights(model, path, {});
}

TensorMap run_model(Model& model, const std::string& mode, const TensorMap& inputs,
                    const Json& kwargs, bool grads) {
  expect(mode == "forward" || mode == "generate", at("mode"), mode, "forward or generate");
  Arguments arguments(inputs, kwargs, ArgumentSource::outside, model.compat());
  const auto method =
      mode == "generate" ? arguments.text("method").value_or("generate") : "forward";
  const at::AutoGradMode records(grads);
  const auto results = called(model, method, arguments);
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

std::vector<std::pair<std::string, at::Tensor>> call_forward(Model& model, const at::Tensor& x,
                                                             TensorMap rest) {
  rest[model.first_argument()] = x;
  Arguments arguments(std::move(rest), Json::object(), ArgumentSource::checked, model.compat());
  auto results = model.call("forward", arguments).flatten();
  arguments.finish();
  return results;
}

at::Tensor run_objective(Model& model, const TensorMap& inputs, const Json& kwargs,
                         ArgumentSource source) {
  Arguments arguments(inputs, kwargs, source, model.compat());
  const auto results = model.call("forward", arguments).flatten();
  arguments.finish();
  return objective(results);
}

}  // namespace x_transformers
