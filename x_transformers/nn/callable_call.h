// What the calls of modules given as values check and have in common.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "x_transformers/nn/callable_module.h"

namespace x_transformers {

/// The argument `name` if it is given; InputError for any other.
at::Tensor only_argument(const std::string& type, const char* name,
                         const CallableModule::NamedTensors& arguments);

/// Throws InputError unless x is floats, or integers for what embeds.
void require_floats(const std::string& type, const at::Tensor& x, bool is_wanted = true);

/// A module that takes x alone, token by token: floats, or else integers.
template <class Holder>
CallableModule per_token_module(const std::string& type, Holder holder, bool takes_floats) {
  return {holder.ptr(),
          [holder, type, takes_floats](const at::Tensor& x,
                                       const CallableModule::NamedTensors& arguments) mutable {
            require_no_arguments(type, arguments);
            require_floats(type, x, takes_floats);
            return CallableModule::Result{holder->forward(x), {}};
          },
          /*is_per_token=*/true};
}

}  // namespace x_transformers
