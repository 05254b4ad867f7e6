// AutoregressiveWrapper in the interchange.
#pragma once

#include <memory>

#include "x_transformers/interchange/model.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers {

/// `net`, a model that wrappers take, within an AutoregressiveWrapper.
std::shared_ptr<Model> wrap_autoregressive(std::shared_ptr<Model> net,
                                           const AutoregressiveWrapperOptions& options = {});

}  // namespace x_transformers
