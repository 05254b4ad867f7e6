#include "x_transformers/generation/sampling.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include <algorithm>
#include <limits>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/argmax.h"
#include "x_transformers/ops/full_precision.h"

namespace x_transformers {

void require_numbers(const at::Tensor& values) {
  if (values.is_cpu() && values.isnan().any().item<bool>()) {
    throw RunError(Notice{at("sampling"), "the logits hold NaN, or rule out every token of a row"});
  }
}

std::optional<at::Generator> seeded_generator(std::optional<int64_t> seed,
                                              const at::Device& device) {
  if (!seed) return std::nullopt;
  auto generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(static_cast<uint64_t>(*seed));
  return generator;
}

at::Tensor tempered(const at::Tensor& logits, double temperature) {
  // Beyond its numbers the type would have 0 and infinity, which make NaN of 0 and -infinity.
  double least = 0, most = 0;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, logits.scalar_type(), "tempered", [&] {
    least = static_cast<double>(std::numeric_limits<scalar_t>::min());
    most = static_cast<double>(std::numeric_limits<scalar_t>::max());
  });
  const auto divisor = std::clamp(temperature, least, most);
  // So small that quotients may exceed the type: then relative to the highest, which softmax does
  // not see.
  constexpr double kMaxLogit = 65536;
  const bool may_exceed = divisor < kMaxLogit / most;
  return (may_exceed ? logits - logits.amax(-1, /*keepdim=*/true) : logits) / divisor;
}

at::Tensor sample_tokens(const at::Tensor& logits, double temperature,
                         const std::optional<at::Generator>& generator) {
  if (temperature == 0) {
    require_numbers(logits);
    return argmax_of_rows(logits);
  }
  const auto scores = tempered(in_full_precision(logits), temperature);
  // An exponential race, as in at::multinomial for one draw, which can wait for the device to check
  // its input.
  const auto race = at::empty_like(scores).exponential_(1, generator);
  // Where launches are what counts, the logarithms race: no sum over all tokens is needed.
  if (!scores.is_cpu()) return argmax_of_rows(scores - race.log());
  const auto probs = scores.softmax(-1);
  require_numbers(probs);
  return argmax_of_rows(probs / race);
}

at::Tensor gumbel_noise(const at::Tensor& like, const std::optional<at::Generator>& generator) {
  constexpr double kMin = 1e-20;
  const auto uniform = at::empty_like(in_full_precision(like)).uniform_(0, 1, generator);
  return -(-uniform.clamp_min_(kMin).log_()).clamp_min_(kMin).log_();
}

at::Tensor gumbel_sample(const at::Tensor& logits, double temperature,
                         const std::optional<at::Generator>& generator) {
  constexpr double kMinTemperature = 1e-6;
  return (tempered(logits, std::max(temperature, kMinTemperature)) +
          gumbel_noise(logits, generator))
      .argmax(-1);
}

}  // namespace x_transformers
