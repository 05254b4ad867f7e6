// A net given as an argument of a wrapper's constructor.
#pragma once

#include <memory>
#include <string>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/models/token_model.h"

namespace x_transformers {

/// The model in `config[key]`, of which the options know that it has a type. InputError unless it
/// is a net that wrappers take, one that has logits of each token.
std::shared_ptr<Model> build_net(const Json& config, const char* key, const ModelPlace& place);

/// The same of a model that must be a ModelClass, as those of `type` are.
template <class ModelClass>
std::shared_ptr<ModelClass> build_net_of(const Json& config, const char* key,
                                         const ModelPlace& place, const char* type) {
  const auto below = place.below(key);
  const auto& given = config.at(key);
  if (!given.is_object()) detail::wrong_type(below.where, "an object with a type", given);
  std::shared_ptr<ModelClass> net;
  if (may_be(typeid(ModelClass), given, below.where))
    net = std::dynamic_pointer_cast<ModelClass>(build_part(given, below));
  expect(net != nullptr, at(below.where / "type"), given["type"].template get<std::string>(), "{}",
         type);
  return net;
}

/// A wrapper's net, its option `name`, where it is not causal.
SeeingNet seeing_net(const char* name, const TokenModel& net);

}  // namespace x_transformers
