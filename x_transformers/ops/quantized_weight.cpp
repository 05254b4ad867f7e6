#include "x_transformers/ops/quantized_weight.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/kernels/cpu/quantized_rows.h"

namespace x_transformers {
namespace {

using kernels::QuantizedRow;

constexpr int64_t kGroup = QuantizedRow::kGroup;

int bits_of(Quantization quantization) { return quantization == Quantization::int8 ? 8 : 4; }

/// Scales as a row holds them: rounded to bfloat16.
at::Tensor stored(const at::Tensor& scale) { return scale.to(at::kBFloat16).to(at::kFloat); }

/// The integers of groups [..., kGroup], with scales [..., 1].
at::Tensor integers_of(const at::Tensor& groups, const at::Tensor& scale, int bits) {
  const auto least = bits == 8 ? -127 : -8, most = bits == 8 ? 127 : 7;
  const auto divisor = at::where(scale == 0, at::ones_like(scale), scale);
  return (groups / divisor).round().clamp(least, most);
}

/// Of several scales around that which just reaches the farthest weight of each group, the one with
/// the least squared error: in 4 bits clipping that weight is often worth it.
at::Tensor best_scale(const at::Tensor& groups, int bits) {
  const auto most = groups.amax(-1, /*keepdim=*/true), least = groups.amin(-1, /*keepdim=*/true);
  // In 4 bits there is one more integer below zero: the farther side has it, by the scale's sign.
  const auto farthest = at::where(most > -least, most, least);
  const double reach = bits == 8 ? 127 : -8;
  at::Tensor best, best_error;
  for (const double share : {1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79}) {
    const auto scale = stored(farthest * (share / reach));
    const auto error =
        (integers_of(groups, scale, bits) * scale - groups).square_().sum(-1, /*keepdim=*/true);
    if (!best.defined()) {
      best = scale;
      best_error = error;
      continue;
    }
    best = at::where(error < best_error, scale, best);
    best_error = at::minimum(best_error, error);
  }
  return best;
}

/// Bytes of the integers [rows, dim].
at::Tensor packed(const at::Tensor& integers, int bits) {
  if (bits == 8) return integers.to(at::kChar).view(at::kByte);
  const auto halves = (integers + 8).to(at::kByte).unflatten(-1, {-1, 2});
  return halves.select(-1, 0).bitwise_or(halves.select(-1, 1).bitwise_left_shift(4));
}

/// The integers [rows, dim] as floats.
at::Tensor unpacked(const at::Tensor& bytes, int bits) {
  if (bits == 8) return bytes.contiguous().view(at::kChar).to(at::kFloat);
  return at::stack({bytes.bitwise_and(15), bytes.bitwise_right_shift(4)}, -1)
      .flatten(-2)
      .to(at::kFloat)
      .sub_(8);
}

}  // namespace

Quantization parse_quantization(const std::string& name) {
  for (const auto known : {Quantization::none, Quantization::int8, Quantization::int4}) {
    if (name == name_of(known)) return known;
  }
  expect(false, at("quantize"), name, "none, int8 or int4");
  return Quantization::none;
}

std::string name_of(Quantization quantization) {
  switch (quantization) {
    case Quantization::int8:
      return "int8";
    case Quantization::int4:
      return "int4";
    case Quantization::none:
      break;
  }
  return "none";
}

bool can_quantize(const at::Tensor& weight) {
  return weight.dim() == 2 && weight.is_floating_point() && weight.size(1) > 0 &&
         weight.size(1) % kGroup == 0;
}

at::Tensor quantized_weight(const at::Tensor& weight, Quantization quantization) {
  require(quantization != Quantization::none && can_quantize(weight), at("quantize"),
          "needs a weight whose rows are groups of {}, got {}", kGroup, shown(weight));
  const at::NoGradGuard no_grad;
  QuantizedRow row;
  row.bits = bits_of(quantization);
  row.dim = weight.size(1);
  auto bytes = at::zeros({weight.size(0), row.bytes()}, weight.options().dtype(at::kByte));
  // Some rows at a time: what is tried takes several times their memory.
  const int64_t rows_at_once = std::max<int64_t>(1, (int64_t{1} << 20) / row.dim);
  for (int64_t first = 0; first < weight.size(0); first += rows_at_once) {
    const auto count = std::min(rows_at_once, weight.size(0) - first);
    const auto groups =
        weight.narrow(0, first, count).to(at::kFloat).unflatten(-1, {row.groups(), kGroup});
    require(groups.isfinite().all().item<bool>(), at("quantize"),
            "a weight is not a finite number");
    const auto scale = best_scale(groups, row.bits);
    const auto integers = integers_of(groups, scale, row.bits).flatten(1);
    const auto to = bytes.narrow(0, first, count);
    to.narrow(1, 0, row.scales()).copy_(packed(integers, row.bits));
    to.narrow(1, row.scales(), row.groups() * 2)
        .copy_(scale.squeeze(-1).to(at::kBFloat16).contiguous().view(at::kByte));
  }
  return bytes;
}

bool is_quantized(const at::Tensor& weight) {
  return weight.defined() && weight.scalar_type() == at::kByte;
}

QuantizedRow quantized_row(const at::Tensor& weight, int64_t dim_in) {
  QuantizedRow row;
  row.dim = dim_in;
  for (const int bits : {8, 4}) {
    row.bits = bits;
    if (dim_in % kGroup == 0 && weight.dim() == 2 && weight.size(1) == row.bytes()) return row;
  }
  expect(false, at("weight"), shown(weight), "quantized rows of {} features", dim_in);
  return row;
}

at::Tensor dequantized(const at::Tensor& weight, int64_t dim_in, at::ScalarType type) {
  if (!is_quantized(weight)) return weight;
  const auto row = quantized_row(weight, dim_in);
  if (weight.device().is_cpu() && weight.is_contiguous()) {
    const auto whole = at::empty({weight.size(0), dim_in}, weight.options().dtype(at::kFloat));
    kernels::dequantize_rows(weight.const_data_ptr<uint8_t>(), row, weight.size(0),
                             whole.mutable_data_ptr<float>());
    return whole.to(type);
  }
  const auto scale = weight.narrow(1, row.scales(), row.groups() * 2)
                         .contiguous()
                         .view(at::kBFloat16)
                         .to(at::kFloat)
                         .unsqueeze(-1);
  const auto integers = unpacked(weight.narrow(1, 0, row.scales()), row.bits);
  return (integers.unflatten(-1, {row.groups(), kGroup}) * scale).flatten(1).to(type);
}

}  // namespace x_transformers
