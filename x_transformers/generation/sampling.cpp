#include "x_transformers/generation/sampling.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/error.h"

namespace x_transformers {
void require_numbers(const at::Tensor& values) {
  if (values.is_cpu() && values.isnan().any().item<bool>()) {
    throw RunError("sampling: the logits hold NaN, or rule out every token of a row");
  }
}

std::optional<at::Generator> seeded_generator(std::optional<int64_t> seed,
                                              const at::Device& device) {
  if (!seed) return std::nullopt;
  auto generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(static_cast<uint64_t>(*seed));
  return generator;
}

at::Tensor sample_tokens(const at::Tensor& logits, double temperature,
                         const std::optional<at::Generator>& generator) {
  if (temperature == 0) {
    require_numbers(logits);
    return logits.argmax(-1);
  }
  const auto probs = (logits / temperature).softmax(-1);
  require_numbers(probs);
  // An exponential race, as in at::multinomial for one draw, which can wait for the device to check
  // its input.
  return (probs / at::empty_like(probs).exponential_(1, generator)).argmax(-1);
}

at::Tensor gumbel_noise(const at::Tensor& like, const std::optional<at::Generator>& generator) {
  constexpr double kSmallest = 1e-20;
  const auto uniform = at::empty_like(like).uniform_(0, 1, generator);
  return -(-uniform.clamp_min_(kSmallest).log_()).clamp_min_(kSmallest).log_();
}

at::Tensor gumbel_sample(const at::Tensor& logits, double temperature,
                         const std::optional<at::Generator>& generator) {
  constexpr double kLowestTemperature = 1e-6;
  return (logits / std::max(temperature, kLowestTemperature) + gumbel_noise(logits, generator))
      .argmax(-1);
}

}  // namespace x_transformers
