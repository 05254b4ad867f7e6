#include "x_transformers/optim/state.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/error.h"

namespace x_transformers {

void copy_state(const std::map<std::string, at::Tensor>& state, const std::string& name,
                const at::Tensor& target) {
  const auto found = state.find(name);
  require(found != state.end(), fmt::format("optimizer state: tensor '{}' is missing", name));
  require(found->second.sizes() == target.sizes(),
          fmt::format("optimizer state: tensor '{}' must have shape [{}], got [{}]", name,
                      fmt::join(target.sizes(), ", "), fmt::join(found->second.sizes(), ", ")));
  const at::NoGradGuard no_grad;
  target.copy_(found->second);
}

}  // namespace x_transformers
