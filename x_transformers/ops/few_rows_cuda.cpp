#include "x_transformers/ops/few_rows_cuda.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/quantized_weight.h"

namespace x_transformers {
namespace {

constexpr int64_t kVectorBytes = 16;

bool has_ends(const LinearEnds& ends) {
  return ends.norm || ends.gated || ends.activation != Activation::identity ||
         ends.residual.defined();
}

std::vector<int64_t> sizes_of_out(const at::Tensor& x, const at::Tensor& weight, bool gated) {
  auto sizes = x.sizes().vec();
  sizes.back() = gated ? weight.size(0) / 2 : weight.size(0);
  return sizes;
}

void add_reasons_of_norm(const at::Tensor& x, const at::Tensor& gamma, Reasons& reasons) {
  reasons.add_if(x.numel() * x.element_size() > kernels::kMaxFewCudaBytesNormalised,
                 "too many features to normalise on the way");
  add_unlike(reasons, x, gamma, "gamma");
  if (!gamma.defined()) return;
  reasons.add_if(gamma.dim() != 1 || gamma.size(0) != x.size(-1) || !gamma.is_contiguous() ||
                     !is_aligned(gamma) || records_gradient({gamma}),
                 "gamma is not dense [dim] without gradient");
}

void add_reasons_of_ends(const at::Tensor& x, const at::Tensor& weight, const LinearEnds& ends,
                         Reasons& reasons) {
  if (!has_ends(ends)) return;
  reasons.add_if(x.scalar_type() == at::kFloat, "not in 16 bits");
  reasons.add_if(ends.gated && weight.size(0) % 2 != 0, "a gated unit of odd size");
  if (ends.norm) add_reasons_of_norm(x, ends.norm->gamma, reasons);
  if (!ends.residual.defined()) return;
  add_unlike(reasons, x, ends.residual, "the residual");
  reasons.add_if(ends.residual.sizes() != sizes_of_out(x, weight, ends.gated) ||
                     !ends.residual.is_contiguous() || records_gradient({ends.residual}),
                 "the residual is not dense, of the sizes of the output, without gradient");
}

kernels::FewRowsNorm norm_of(const RowNorm& norm, int64_t dim) {
  const bool is_layer = norm.kind == RowNorm::Kind::layer;
  kernels::FewRowsNorm of_kernel;
  of_kernel.kind = is_layer ? kernels::FewRowsNorm::Kind::layer : kernels::FewRowsNorm::Kind::l2;
  of_kernel.epsilon = static_cast<float>(is_layer ? kLayerNormEpsilon : kMinNorm);
  of_kernel.scale = is_layer ? 1.0f : std::sqrt(static_cast<float>(dim));
  if (!norm.gamma.defined()) return of_kernel;
  of_kernel.gain.weight = norm.gamma.const_data_ptr();
  of_kernel.gain.offset = static_cast<float>(norm.gamma_offset);
  return of_kernel;
}

}  // namespace

Reasons few_rows_cuda_reasons(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              const LinearEnds& ends) {
  auto reasons = cuda_kernel_reasons(x, "x");
  if (!x.is_cuda()) return reasons;
  const bool quantized = is_quantized(weight);
  if (quantized) {
    reasons.add_if(weight.device() != x.device(), "weight is on another device");
    reasons.add_if(x.scalar_type() == at::kFloat, "x of 32 bits and a quantized weight");
  } else {
    add_unlike(reasons, x, weight, "weight");
  }
  add_unlike(reasons, x, bias, "bias");
  reasons.add_if(records_gradient({x, weight, bias}), "gradients are recorded");
  if (x.dim() < 1 || weight.dim() != 2 || x.size(-1) == 0 ||
      (!quantized && x.size(-1) != weight.size(1))) {
    reasons.add("the sizes do not fit");
    return reasons;
  }
  const auto most =
      x.scalar_type() == at::kFloat ? kernels::kMaxFewCudaRows : kernels::kMaxFewCudaRowsOf16Bits;
  reasons.add_if(x.numel() > most * x.size(-1), "more than a few rows");
  reasons.add_if(x.size(-1) > std::numeric_limits<int>::max() / 4, "too many features");
  reasons.add_if(x.size(-1) * x.element_size() % kVectorBytes != 0 || !weight.is_contiguous() ||
                     !is_aligned(weight) || (bias.defined() && !bias.is_contiguous()),
                 "weight or bias are not dense vectors of 16 bytes");
  add_reasons_of_ends(x, weight, ends, reasons);
  return reasons;
}

std::vector<at::Tensor> few_rows_cuda(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                      const std::vector<at::Tensor>& biases,
                                      const LinearEnds& ends) {
  auto dense = x.contiguous();
  if (!is_aligned(dense)) dense = dense.clone();
  kernels::FewRowsOfLayers params;
  params.x = dense.const_data_ptr();
  params.element = element_of(dense);
  params.dim = dense.size(-1);
  params.rows = dense.numel() / params.dim;
  params.count = static_cast<int>(weights.size());
  if (ends.norm) params.norm = norm_of(*ends.norm, params.dim);
  params.activation = ends.activation;
  params.gated = ends.gated;
  params.weights_are_old = ends.weights_are_old;
  if (is_quantized(weights.front())) {
    const auto row = quantized_row(weights.front(), params.dim);
    params.weight_bits = row.bits;
    params.weight_row_bytes = row.bytes();
  }
  if (ends.residual.defined()) params.residual = ends.residual.const_data_ptr();
  std::vector<at::Tensor> outs;
  for (size_t i = 0; i < weights.size(); ++i) {
    outs.push_back(at::empty(sizes_of_out(x, weights[i], ends.gated), x.options()));
    auto& layer = params.layers[i];
    layer.weight = weights[i].const_data_ptr();
    if (!biases.empty() && biases[i].defined()) layer.bias = biases[i].const_data_ptr();
    layer.out = outs.back().mutable_data_ptr();
    layer.dim_out = weights[i].size(0);
  }
  our_cuda_kernels().launchers->linear_few_rows(params, x.device().index());
  return outs;
}

}  // namespace x_transformers
