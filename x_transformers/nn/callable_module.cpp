#include "x_transformers/nn/callable_module.h"

#include <algorithm>
#include <mutex>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/nn/activations.h"
#include "x_transformers/nn/callable_types.h"

namespace x_transformers {
namespace {

/// The types by name. Models may be built by several threads.
struct Registry {
  std::mutex mutex;
  std::map<std::string, MakeCallable> types = built_in_callables();
};

Registry& registry() {
  static Registry all;
  return all;
}

MakeCallable find_type(const std::string& type) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().types.find(type);
  return found == registry().types.end() ? nullptr : found->second;
}

std::vector<std::string> known_types() {
  const std::lock_guard lock(registry().mutex);
  std::vector<std::string> names = activation_names();
  for (const auto& [name, make] : registry().types) names.push_back(name);
  return names;
}

CallableModule activation_callable(const ModuleSpec& spec) {
  const auto activation = make_activation(spec);
  CallableModule callable = {
      activation,
      [activation, type = spec.type](const at::Tensor& x, const auto& arguments) {
        require_no_arguments(type, arguments);
        return CallableModule::Result{activation->forward(x), {}};
      },
      activation->is_per_token()};
  callable.draws = activation->draws();
  return callable;
}

}  // namespace

void register_callable(const std::string& type, MakeCallable make) {
  const std::lock_guard lock(registry().mutex);
  require(registry().types.emplace(type, std::move(make)).second, at(type + ":"),
          "is a type already");
}

void offer_callable(const std::string& type, MakeCallable make) {
  const std::lock_guard lock(registry().mutex);
  registry().types.emplace(type, std::move(make));
}

CallableModule make_callable(const ModuleSpec& spec, const Compat& compat) {
  if (const auto make = find_type(spec.type)) return make(spec, compat);
  const auto activations = activation_names();
  if (std::find(activations.begin(), activations.end(), spec.type) != activations.end())
    return activation_callable(spec);
  detail::unknown("type", "type", spec.type, known_types());
}

void require_no_arguments(const std::string& type, const CallableModule::NamedTensors& arguments) {
  if (arguments.empty()) return;
  throw InputError(Notice{{}, text("{} takes no argument '{}'", type, arguments.begin()->first)});
}

}  // namespace x_transformers
