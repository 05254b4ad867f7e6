// Any module in the place of an activation.
#pragma once

#include <memory>

#include "x_transformers/core/compat.h"
#include "x_transformers/nn/activations.h"

namespace x_transformers {

/// The activation, or else any module of make_callable, that `spec` names. Throws InputError,
/// naming the nearest known type, for another.
std::shared_ptr<ActivationModule> make_callable_activation(const ModuleSpec& spec,
                                                           const Compat& compat);

}  // namespace x_transformers
