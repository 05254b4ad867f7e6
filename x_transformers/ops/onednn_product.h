// Matrix products by oneDNN, which LibTorch holds beside MKL.
#pragma once

#include <ATen/core/Tensor.h>

namespace x_transformers {

/// Whether oneDNN multiplies float32 matrices faster than ATen's mm, which calls MKL: on AMD's
/// processors with AVX-512, where the LibTorch that is loaded has oneDNN.
bool prefers_onednn();

/// Whether oneDNN, by which LibTorch multiplies bfloat16 matrices on the CPU, has no instructions
/// for them here: then they take several times as long as those of float32. Only known of x86-64
/// processors with AVX2.
bool emulates_bf16();
/// What is done there, in words.
inline constexpr const char* kEmulatedBf16 =
    "this processor has no instructions for bf16, so products and attention run in fp32, of "
    "weights "
    "and activations in bf16";

/// a [m, k] b [k, n] + bias [n] (or undefined), float32 on the CPU, of any strides; a factor
/// with gaps between its rows is copied, and an a whose rows are not dense. Needs
/// `prefers_onednn()`. Records no gradients.
at::Tensor onednn_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias);

}  // namespace x_transformers
