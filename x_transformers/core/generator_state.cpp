#include "x_transformers/core/generator_state.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>

#include <mutex>

namespace x_transformers {

at::Tensor generator_state(const at::Device& device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_generator_state(const at::Device& device, const at::Tensor& state) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

RandomStates::RandomStates(const at::Device& device)
    : device_(device), cpu_(generator_state(at::kCPU)) {
  if (!device_.is_cpu()) other_ = generator_state(device_);
}

void RandomStates::restore() const {
  set_generator_state(at::kCPU, cpu_);
  if (other_.defined()) set_generator_state(device_, other_);
}

}  // namespace x_transformers
