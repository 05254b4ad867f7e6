#include "x_transformers/nn/callable_call.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"

namespace x_transformers {

at::Tensor only_argument(const std::string& type, const char* name,
                         const CallableModule::NamedTensors& arguments) {
  for (const auto& [given, tensor] : arguments) {
    require(given == name, About{}, "{} takes no argument '{}', only '{}'", type, given, name);
  }
  const auto found = arguments.find(name);
  return found == arguments.end() ? at::Tensor() : found->second;
}

void require_floats(const std::string& type, const at::Tensor& x, bool is_wanted) {
  expect(at::isIntegralType(x.scalar_type(), /*includeBool=*/true) != is_wanted, About{}, shown(x),
         "{} for {}", is_wanted ? "floats" : "integers", type);
}

}  // namespace x_transformers
