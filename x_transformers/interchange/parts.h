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

/// The methods of a part by their Python names; most parts have only forward.
using PartMethods = std::map<std::string, std::function<Value(Arguments&)>>;

/// A model of one module. `type` is for error messages.
std::shared_ptr<Model> make_part(const std::string& type, std::shared_ptr<torch::nn::Module> module,
                                 PartMethods methods);

/// Registers a type whose constructor takes `OptionsType`; `make` turns options into a model.
template <class OptionsType, class Make>
void register_part(ModelTypes& types, const std::string& name, Make make) {
  types[name] = {[make](const Json& config, const std::string& where) -> std::shared_ptr<Model> {
                   const auto options = options_from_json<OptionsType>(config, where);
                   try {
                     return make(options);
                   } catch (...) {
                     rethrow_at(where);
                   }
                 },
                 [] { return options_help<OptionsType>(); }};
}

void register_norms(ModelTypes& types);
void register_residuals(ModelTypes& types);
void register_positions(ModelTypes& types);
void register_blocks(ModelTypes& types);
void register_attend(ModelTypes& types);
void register_callables(ModelTypes& types);

}  // namespace x_transformers
