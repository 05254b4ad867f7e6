// A net given as an argument of a wrapper's constructor.
#pragma once

#include <memory>
#include <string>

#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers {

/// The model in `config[key]`, a TransformerWrapper where it has no type. InputError unless it is a
/// net that wrappers take, one that has logits of each token.
std::shared_ptr<Model> build_net(const Json& config, const char* key, const ModelPlace& place);

}  // namespace x_transformers
