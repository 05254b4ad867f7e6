#include "x_transformers/core/cloned.h"

#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/generator_state.h"
#include "x_transformers/core/warning.h"

namespace x_transformers {
namespace {

using NamedTensors = torch::OrderedDict<std::string, at::Tensor>;

void copy_values(const NamedTensors& from, NamedTensors to,
                 const std::optional<at::Device>& device) {
  for (const auto& item : from) {
    const auto* copy = to.find(item.key());
    require(copy != nullptr && from.size() == to.size(), at(item.key()),
            "cannot be cloned: the model was not built with this tensor");
    const auto& value = item.value();
    auto target = *copy;
    target.set_data(value.detach().to(device.value_or(value.device()), value.scalar_type(),
                                      /*non_blocking=*/false, /*copy=*/true));
    target.set_requires_grad(value.requires_grad());
  }
}

}  // namespace

std::shared_ptr<torch::nn::Module> cloned(
    const torch::nn::Module& original, const std::optional<at::Device>& device,
    const std::function<std::shared_ptr<torch::nn::Module>()>& build) {
  const WarningsOff warnings_off;            // the original has given them
  const RandomStateGuard undrawn(at::kCPU);  // the new weights are thrown away
  auto copy = build();
  const at::NoGradGuard no_grad;
  copy_values(original.named_parameters(), copy->named_parameters(), device);
  copy_values(original.named_buffers(), copy->named_buffers(), device);
  const auto modes = original.named_modules();
  for (const auto& item : copy->named_modules()) {
    if (const auto* same = modes.find(item.key())) item.value()->train((*same)->is_training());
  }
  return copy;
}

}  // namespace x_transformers
