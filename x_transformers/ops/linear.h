// Linear layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// x weight^T + bias: x [..., dim_in], weight [dim_out, dim_in], bias [dim_out] or undefined;
/// returns [..., dim_out]. On a processor with bfloat16 tiles, float32 products run on them, in as
/// many parts as at::globalContext().float32MatmulPrecision() asks for; its default, highest, keeps
/// the precision of float32. On AMD's with AVX-512 they run in oneDNN. A few rows, as in decoding,
/// are multiplied as the weights are read, float32 or bfloat16, on every x86-64 processor with
/// AVX2. Other bfloat16 products are ATen's; on a processor without instructions for them
/// (emulates_bf16) those of many rows run in float32, of weights and inputs that stay bfloat16.
/// A weight may be quantized (ops/quantized_weight.h): it has no gradient, and of more than a few
/// rows it is made whole for the time of the product.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// As linear, by the engine of this name. Throws InputError with the reasons where it cannot run.
at::Tensor linear_on(const std::string& engine, const at::Tensor& x, const at::Tensor& weight,
                     const at::Tensor& bias);
/// The engines of linear in order of preference, each with its reasons against.
std::vector<EngineReport> explain_linear(const at::Tensor& x, const at::Tensor& weight,
                                         const at::Tensor& bias);

/// Sets the float32MatmulPrecision of this process: "highest" (float32), "high" (on the CPU 16 bits
/// of each number, on CUDA TF32) or "medium" (bfloat16; on CUDA as high). Throws InputError for any
/// other name.
void set_matmul_precision(const std::string& name);

/// Why `linear` leaves this product to ATen, whose float32 products are MKL's; empty: the
/// processor's tiles or oneDNN run it.
std::string linear_unsupported(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias);

/// Why `linear` does not run this product as one of a few rows, which reads the weights once, as in
/// decoding; empty: it does, where no gradients are recorded.
std::string few_rows_unsupported(const at::Tensor& x, const at::Tensor& weight,
                                 const at::Tensor& bias);

/// out [m, n] = a [m, k] b [k, n], float32 on the CPU, multiplied as `linear` does, or else by
/// ATen. Rows of `out` are dense; what lies between them stays. Records no gradients.
void write_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b);
/// The same, added to what out holds.
void accumulate_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b);

/// What `linear` computes, by ATen.
at::Tensor linear_reference(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace x_transformers
