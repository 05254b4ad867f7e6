#include "x_transformers/nn/binary_mapper.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/ops/full_precision.h"

namespace x_transformers {
namespace {

/// More codes than any table of conditions has rows for.
constexpr int64_t kMaxBits = 24;

at::Tensor bit_values(int64_t bits, const at::Tensor& like) {
  return at::pow(2, at::arange(bits, like.options().dtype(at::kLong)));
}

/// Entropy of independent bits [..., bits] -> [...], in nats.
at::Tensor binary_entropy(const at::Tensor& logits) {
  const auto prob = logits.sigmoid();
  return -(prob * at::log_sigmoid(logits) + (1 - prob) * at::log_sigmoid(-logits)).sum(-1);
}

}  // namespace

BinaryMapperImpl::BinaryMapperImpl(const BinaryMapperOptions& options) : options_(options) {
  expect(options.bits >= 1 && options.bits <= kMaxBits, at("bits"), options.bits, "1 to {}",
         kMaxBits);
}

/// The probability of each code, [..., bits] -> [..., 2 ** bits].
at::Tensor BinaryMapperImpl::code_probabilities(const at::Tensor& logits) const {
  const auto values = bit_values(options_.bits, logits);
  const auto all = at::arange(num_codes(), values.options()).unsqueeze(1);
  const auto is_set = at::bitwise_and(all, values).ne(0).to(logits.scalar_type());
  return (at::matmul(at::log_sigmoid(logits), is_set.t()) +
          at::matmul(at::log_sigmoid(-logits), (1 - is_set).t()))
      .exp();
}

BinaryMapperImpl::Output BinaryMapperImpl::forward(const at::Tensor& logits,
                                                   const BinaryMapperCall& call) {
  expect(logits.dim() > 0 && logits.size(-1) == options_.bits && logits.is_floating_point(),
         at("logits"), shown(logits), "floats [..., bits = {}]", options_.bits);
  Output output;
  const auto chances = in_full_precision((logits / call.temperature).sigmoid());
  const auto drawn = at::rand_like(chances) <= chances;
  output.codes = (drawn.to(at::kLong) * bit_values(options_.bits, logits)).sum(-1);
  auto sizes = logits.sizes().vec();
  sizes.back() = num_codes();
  output.one_hot = at::zeros(sizes, logits.options()).scatter(-1, output.codes.unsqueeze(-1), 1);
  output.aux_kl_loss = at::zeros({}, logits.options());
  if (call.calc_aux_loss.value_or(is_training())) {
    const auto information =
        static_cast<double>(options_.bits) * std::numbers::ln2 - binary_entropy(logits);
    output.aux_kl_loss = at::relu(information - options_.kl_loss_threshold).mean();
  }
  if (call.straight_through.value_or(is_training())) {
    const auto soft = code_probabilities(logits);
    output.one_hot = output.one_hot + soft - soft.detach();
  }
  return output;
}

std::shared_ptr<torch::nn::Module> BinaryMapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] { return std::make_shared<BinaryMapperImpl>(options_); });
}

}  // namespace x_transformers
