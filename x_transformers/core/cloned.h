// Module::clone of our models: a second one with values of its own.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <optional>

namespace x_transformers {

/// A copy of `original`, on `device` or where the original is: `build` makes a module of the same
/// structure, which gets the original's values, types, modes and what of it is trained. As in
/// LibTorch gradients are not copied. Draws no random numbers and warns of nothing again. Throws
/// InputError where the original has had parameters added or taken away since it was built.
std::shared_ptr<torch::nn::Module> cloned(
    const torch::nn::Module& original, const std::optional<at::Device>& device,
    const std::function<std::shared_ptr<torch::nn::Module>()>& build);

/// A copy of a module that is held as a `Kind`; null for null.
template <class Kind>
std::shared_ptr<Kind> cloned_as(const std::shared_ptr<Kind>& held,
                                const std::optional<at::Device>& device) {
  return held ? std::dynamic_pointer_cast<Kind>(held->clone(device)) : nullptr;
}

}  // namespace x_transformers
