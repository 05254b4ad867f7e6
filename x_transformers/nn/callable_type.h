// A type of modules given as values, made of a class: what register_callable (callable_module.h)
// takes.
#pragma once

#include <concepts>
#include <memory>
#include <utility>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/nn/callable_module.h"

namespace x_transformers {

/// The options of a module that `spec` names, for a model of `compat`.
template <class OptionsType>
OptionsType callable_options(const ModuleSpec& spec, [[maybe_unused]] const Compat& compat) {
  auto options = options_from_json<OptionsType>(Json::parse(spec.arguments), OptionPath());
  if constexpr (requires { options.compat; }) options.compat = compat;
  return options;
}

/// What is known of a module. Of the first two false is always right, and true lets models decode
/// token by token.
struct CallableTraits {
  bool is_per_token = false;      ///< the output for a token depends on that token alone
  bool is_causal = is_per_token;  ///< and not on later tokens
  bool draws = false;             ///< random numbers, in training: must be said
};

/// The type of a torch::nn::Module with `forward(x)`, whose constructor takes `OptionsType` (with
/// `fields`, core/options.h) or nothing.
template <class Module, class OptionsType = NoOptions>
MakeCallable callable_type(CallableTraits traits = {}) {
  return [traits](const ModuleSpec& spec, const Compat& compat) -> CallableModule {
    const auto options = callable_options<OptionsType>(spec, compat);
    std::shared_ptr<Module> module;
    if constexpr (std::constructible_from<Module, const OptionsType&>) {
      module = std::make_shared<Module>(options);
    } else {
      module = std::make_shared<Module>();
    }
    auto call = [module, type = spec.type](const at::Tensor& x,
                                           const CallableModule::NamedTensors& arguments) {
      require_no_arguments(type, arguments);
      return CallableModule::Result{module->forward(x), {}};
    };
    CallableModule callable = {module, std::move(call), traits.is_per_token, traits.is_causal};
    callable.draws = traits.draws;
    return callable;
  };
}

}  // namespace x_transformers
