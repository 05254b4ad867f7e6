#include "x_transformers/ops/keep_likely.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "x_transformers/kernels/keep_likely.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

struct Call {
  const at::Tensor& logits;
  Likely likely;
};

Reasons cuda_reasons(const Call& call) {
  const auto& logits = call.logits;
  auto reasons = cuda_kernel_reasons(logits, "logits");
  if (!reasons.empty()) return reasons;
  constexpr int64_t kMaxRows = 1024;
  reasons.add_if(logits.scalar_type() != at::kFloat, "not float32");
  reasons.add_if(records_gradient({logits}), "gradients");
  const auto vocab = logits.dim() == 0 ? 0 : logits.size(-1);
  reasons.add_if(vocab == 0 || vocab > our_cuda_kernels().launchers->keep_likely_most(),
                 "no or too many logits in a row");
  reasons.add_if(vocab > 0 && logits.numel() > kMaxRows * vocab, "many rows");
  return reasons;
}

at::Tensor run_cuda(const Call& call) {
  const auto& [logits, likely] = call;
  const auto dense = logits.contiguous();
  auto out = at::empty_like(dense);
  kernels::KeepLikely params;
  params.x = dense.const_data_ptr<float>();
  params.out = out.mutable_data_ptr<float>();
  params.dim = dense.size(-1);
  params.rows = dense.numel() / params.dim;
  params.count = std::min(likely.count, params.dim);
  params.share = static_cast<float>(likely.share);
  our_cuda_kernels().launchers->keep_likely(params, logits.device().index());
  return out;
}

at::Tensor keep_highest(const at::Tensor& logits, int64_t count) {
  const auto [values, indices] = logits.topk(std::min(count, logits.size(-1)), -1);
  return at::full_like(logits, kNegativeInfinity).scatter_(-1, indices, values);
}

at::Tensor keep_share(const at::Tensor& logits, double share) {
  if (share >= 1) return logits;  // by rounding the sum may pass 1
  const auto [values, indices] = logits.sort(-1, /*descending=*/true);
  // A token goes when those before it already pass the share: the comparison, moved by one.
  const auto passed = values.softmax(-1).cumsum(-1) > share;
  const auto removed = at::constant_pad_nd(passed, {1, -1}, 0);
  const auto kept = values.masked_fill(removed, kNegativeInfinity);
  return at::empty_like(logits).scatter_(-1, indices, kept);
}

at::Tensor run_reference(const Call& call) {
  const auto& [logits, likely] = call;
  return likely.count > 0 ? keep_highest(logits, likely.count) : keep_share(logits, likely.share);
}

const Engines<Call, at::Tensor>& likely_engines() {
  static const Engines<Call, at::Tensor> all(
      {{"cuda", cuda_reasons, run_cuda},
       {"reference", [](const Call&) { return Reasons(); }, run_reference}});
  return all;
}

}  // namespace

at::Tensor keep_likely(const at::Tensor& logits, const Likely& likely) {
  return likely_engines().run({logits, likely});
}

at::Tensor keep_likely_on(const std::string& engine, const at::Tensor& logits,
                          const Likely& likely) {
  return likely_engines().run_on(engine, {logits, likely});
}

std::vector<EngineReport> explain_keep_likely(const at::Tensor& logits, const Likely& likely) {
  return likely_engines().explain({logits, likely});
}

}  // namespace x_transformers
