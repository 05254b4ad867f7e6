// Weights of linear layers with fewer bits than they were trained with, for models that only
// compute: they are read, not trained.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "x_transformers/kernels/quantized.h"

namespace x_transformers {

/// int8 and int4: groups of 32 features of one output share a scale, and weights are rounded to
/// multiples of it, -127 to 127 or -8 to 7 times (kernels/quantized.h): 8.5 and 4.5 bits a weight.
enum class Quantization { none, int8, int4 };

/// Throws InputError unless it is "none", "int8" or "int4".
Quantization parse_quantization(const std::string& name);
std::string name_of(Quantization quantization);

/// Bytes [dim_out, bytes of a row] in place of a floating weight [dim_out, dim_in], on its device,
/// of which only the ops of ops/linear.h know what they mean. The scale of a group is the one, of
/// several tried, that leaves the least squared error. InputError unless dim_in divides into groups
/// (can_quantize) and every weight is finite.
at::Tensor quantized_weight(const at::Tensor& weight, Quantization quantization);
/// Whether a weight is a floating matrix whose rows are whole groups.
bool can_quantize(const at::Tensor& weight);

bool is_quantized(const at::Tensor& weight);
/// What the bytes of a row of `dim_in` features mean. InputError where no format has as many.
kernels::QuantizedRow quantized_row(const at::Tensor& weight, int64_t dim_in);
/// The weight [dim_out, dim_in] in `type` that the bytes stand for; a floating weight stays.
at::Tensor dequantized(const at::Tensor& weight, int64_t dim_in, at::ScalarType type);

}  // namespace x_transformers
