#include "x_transformers/ops/linear_ends.h"

#include <ATen/ATen.h>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/few_rows_cuda.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/linear_cuda.h"

namespace x_transformers {
namespace {

struct EndsCall {
  const at::Tensor &x, &weight, &bias;
  const LinearEnds& ends;
};

const Engines<EndsCall, at::Tensor>& ends_engines() {
  using Call = EndsCall;
  static const Engines<Call, at::Tensor> all(
      {{"cuda",
        [](const Call& call) {
          return few_rows_cuda_reasons(call.x, call.weight, call.bias, call.ends);
        },
        [](const Call& call) {
          return few_rows_cuda(call.x, {call.weight}, {call.bias}, call.ends).front();
        }},
       {"cuda_add",
        [](const Call& call) {
          const auto& ends = call.ends;
          if (!ends.residual.defined()) return Reasons("no residual is added");
          auto reasons = linear_cuda_reasons(call.x, call.weight, call.bias, ends.residual);
          reasons.add_if(ends.norm || ends.gated || ends.activation != Activation::identity,
                         "more than a residual stands around the product");
          return reasons;
        },
        [](const Call& call) {
          return linear_cuda(call.x, call.weight, call.bias, call.ends.residual);
        }},
       {"reference", [](const Call&) { return Reasons(); },
        [](const Call& call) {
          return linear_with_ends_reference(call.x, call.weight, call.bias, call.ends);
        }}});
  return all;
}

}  // namespace

at::Tensor linear_with_ends(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const LinearEnds& ends) {
  return ends_engines().run({x, weight, bias, ends});
}

at::Tensor linear_with_ends_on(const std::string& engine, const at::Tensor& x,
                               const at::Tensor& weight, const at::Tensor& bias,
                               const LinearEnds& ends) {
  return ends_engines().run_on(engine, {x, weight, bias, ends});
}

std::vector<EngineReport> explain_linear_with_ends(const at::Tensor& x, const at::Tensor& weight,
                                                   const at::Tensor& bias, const LinearEnds& ends) {
  return ends_engines().explain({x, weight, bias, ends});
}

at::Tensor linear_with_ends_reference(const at::Tensor& x, const at::Tensor& weight,
                                      const at::Tensor& bias, const LinearEnds& ends) {
  auto y = linear(ends.norm ? normalised(x, *ends.norm) : x, weight, bias);
  if (ends.gated) {
    y = glu(y, ends.activation);
  } else if (ends.activation != Activation::identity) {
    y = activate(y, ends.activation);
  }
  return ends.residual.defined() ? y + ends.residual : y;
}

bool takes_ends(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() != at::kFloat && x.dim() > 0 && x.size(-1) > 0 &&
         x.numel() <= kernels::kMaxFewCudaRowsOf16Bits * x.size(-1) &&
         !at::GradMode::is_enabled() && is_plain_on_cuda(x) && our_cuda_kernels().launchers;
}

}  // namespace x_transformers
