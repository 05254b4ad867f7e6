// TransformerWrapper, and classes derived from it, in the interchange.
#pragma once

#include <memory>
#include <string>

#include "x_transformers/interchange/model.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

/// `wrapper` as a model of the given type of model files, with the calls of TransformerWrapper.
std::shared_ptr<Model> transformer_wrapper_model(const std::string& type,
                                                 TransformerWrapper wrapper);

}  // namespace x_transformers
