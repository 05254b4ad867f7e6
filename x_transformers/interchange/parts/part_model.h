// The small modules of Python's x_transformers.py and attend.py as types of the interchange, each
// alone.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "x_transformers/interchange/registry.h"

namespace x_transformers {

/// The methods of a module by their Python names; most have only forward.
using NamedMethods = std::map<std::string, std::function<Value(Arguments&)>>;

/// A model of one module and its methods. `type` is for error messages, `first_argument` what
/// forward calls its input.
std::shared_ptr<Model> model_of_methods(const std::string& type,
                                        std::shared_ptr<torch::nn::Module> module,
                                        NamedMethods methods,
                                        const std::string& first_argument = "x");

/// `model` with a sample call of features [1, seq, dim] as its first argument.
std::shared_ptr<Model> with_sample(std::shared_ptr<Model> model, int64_t dim);

/// Registers a type whose constructor takes `OptionsType`; `make` turns options into a model. One
/// with an option `dim` is called with so many features.
template <class OptionsType, class Make>
void register_part(ModelTypes& types, const std::string& name, Make make) {
  types[name] = model_type<OptionsType>([make](const OptionsType& options) {
    std::shared_ptr<Model> model = make(options);
    if constexpr (requires {
                    { options.dim } -> std::convertible_to<int64_t>;
                  })
      model = with_sample(std::move(model), options.dim);
    return model;
  });
}

}  // namespace x_transformers
