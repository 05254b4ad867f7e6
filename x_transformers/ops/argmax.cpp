#include "x_transformers/ops/argmax.h"

#include <ATen/ATen.h>

#include <limits>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

Reasons cuda_reasons(const at::Tensor& x) {
  auto reasons = cuda_kernel_reasons(x, "x");
  if (!x.is_cuda()) return reasons;
  // Of many rows LibTorch's kernel fills the GPU as well.
  constexpr int64_t kMaxRows = 1024;
  if (x.dim() == 0 || x.size(-1) == 0 || x.size(-1) > std::numeric_limits<int>::max()) {
    reasons.add("no or too many numbers in a row");
  } else {
    reasons.add_if(x.numel() > kMaxRows * x.size(-1), "many rows");
  }
  return reasons;
}

at::Tensor run_cuda(const at::Tensor& x) {
  const auto dense = x.detach().contiguous();
  auto out = at::empty(x.sizes().slice(0, x.dim() - 1), x.options().dtype(at::kLong));
  kernels::ArgmaxOfRows params;
  params.x = dense.const_data_ptr();
  params.element = element_of(dense);
  params.out = out.mutable_data_ptr<int64_t>();
  params.dim = dense.size(-1);
  params.rows = dense.numel() / params.dim;
  our_cuda_kernels().launchers->argmax_of_rows(params, x.device().index());
  return out;
}

const Engines<at::Tensor, at::Tensor>& argmax_engines() {
  static const Engines<at::Tensor, at::Tensor> all(
      {{"cuda", cuda_reasons, run_cuda},
       {"reference", [](const at::Tensor&) { return Reasons(); },
        [](const at::Tensor& x) { return x.argmax(-1); }}});
  return all;
}

}  // namespace

at::Tensor argmax_of_rows(const at::Tensor& x) { return argmax_engines().run(x); }

at::Tensor argmax_of_rows_on(const std::string& engine, const at::Tensor& x) {
  return argmax_engines().run_on(engine, x);
}

std::vector<EngineReport> explain_argmax_of_rows(const at::Tensor& x) {
  return argmax_engines().explain(x);
}

}  // namespace x_transformers
