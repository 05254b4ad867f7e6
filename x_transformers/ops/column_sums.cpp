#include "x_transformers/ops/column_sums.h"

#include <ATen/ATen.h>

#include <limits>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

struct SumsCall {
  const at::Tensor& x;
  at::ScalarType dtype;
};

Reasons cuda_reasons(const SumsCall& call) {
  const auto& x = call.x;
  auto reasons = cuda_kernel_reasons(x, "x");
  if (!x.is_cuda()) return reasons;
  reasons.add_if(x.dim() != 2 || x.numel() == 0 || x.stride(1) != 1 ||
                     x.size(1) > std::numeric_limits<int>::max(),
                 "x is not a matrix of dense rows");
  reasons.add_if(call.dtype != at::kFloat && call.dtype != at::kBFloat16 && call.dtype != at::kHalf,
                 "the type of the sums");
  return reasons;
}

at::Tensor run_cuda(const SumsCall& call) {
  const auto& x = call.x;
  const auto& launchers = *our_cuda_kernels().launchers;
  auto sums = at::empty({x.size(1)}, x.options().dtype(call.dtype).requires_grad(false));
  kernels::ColumnSums params;
  params.x = x.const_data_ptr();
  params.element = element_of(x);
  params.rows = x.size(0);
  params.columns = x.size(1);
  params.stride = x.stride(0);
  params.sums = sums.mutable_data_ptr();
  params.sums_element = element_of(sums);
  params.chunks = launchers.column_sum_chunks(params.rows, params.columns);
  at::Tensor partial;
  if (params.chunks > 1) {
    partial = at::empty({params.chunks, params.columns}, sums.options().dtype(at::kFloat));
    params.partial = partial.mutable_data_ptr<float>();
  }
  launchers.column_sums(params, x.device().index());
  return sums;
}

const Engines<SumsCall, at::Tensor>& column_sum_engines() {
  static const Engines<SumsCall, at::Tensor> all(
      {{"cuda", cuda_reasons, run_cuda},
       {"reference", [](const SumsCall&) { return Reasons(); },
        [](const SumsCall& call) {
          const bool is_low = call.dtype == at::kBFloat16 || call.dtype == at::kHalf;
          const auto sums = call.x.sum(0, false, is_low ? at::kFloat : call.dtype);
          return sums.to(call.dtype);
        }}});
  return all;
}

}  // namespace

at::Tensor column_sums(const at::Tensor& x, at::ScalarType dtype) {
  return column_sum_engines().run({x, dtype});
}

at::Tensor column_sums_on(const std::string& engine, const at::Tensor& x, at::ScalarType dtype) {
  return column_sum_engines().run_on(engine, {x, dtype});
}

std::vector<EngineReport> explain_column_sums(const at::Tensor& x, at::ScalarType dtype) {
  return column_sum_engines().explain({x, dtype});
}

}  // namespace x_transformers
