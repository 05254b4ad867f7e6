// From logits to tokens.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace x_transformers {

/// A generator of random numbers of its own for `device`, started at `seed`; nothing without a
/// seed, which stands for the device's default generator.
std::optional<at::Generator> seeded_generator(std::optional<int64_t> seed,
                                              const at::Device& device);

/// logits / temperature, of any size above 0: where quotients might exceed the type of the logits,
/// those are taken relative to the highest of each row, which no softmax sees.
at::Tensor tempered(const at::Tensor& logits, double temperature);

/// One token for each row of logits `[batch, vocab]`: the highest at temperature 0, else one drawn
/// with the probabilities softmax(logits / temperature), the very one that Python's
/// torch.multinomial draws from the same generator state. Returns `[batch]` int64 and reads nothing
/// from a device. Throws RunError where the logits are on the CPU and a row is not a distribution
/// (NaN, or every token ruled out).
at::Tensor sample_tokens(const at::Tensor& logits, double temperature,
                         const std::optional<at::Generator>& generator = std::nullopt);

/// Throws RunError for NaN in values on the CPU, where looking costs nothing; on a device it would
/// mean waiting, and nothing is looked at.
void require_numbers(const at::Tensor& values);

/// Gumbel noise, -log(-log(uniform)), of the shape, type and device of in_full_precision(like)
/// (ops/full_precision.h).
at::Tensor gumbel_noise(const at::Tensor& like,
                        const std::optional<at::Generator>& generator = std::nullopt);

/// The index of the highest of logits / temperature + Gumbel noise along the last dimension, a draw
/// from softmax(logits / temperature); temperatures below 1e-6 count as 1e-6.
at::Tensor gumbel_sample(const at::Tensor& logits, double temperature = 1.0,
                         const std::optional<at::Generator>& generator = std::nullopt);

}  // namespace x_transformers
