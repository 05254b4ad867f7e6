// Attention of one query on a static cache by a kernel of ours.
#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/ops/attend_decode.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/kernel_tensors.h"

namespace x_transformers {
namespace {

bool is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

void add_reasons_of_sizes(const AttendCall& call, const FilledKeys& filled, Reasons& reasons) {
  constexpr int64_t kLeastFeatures = 8;
  const auto &q = call.q, &k = call.k, &v = call.v;
  const auto d = q.size(3), group = q.size(1) / std::max<int64_t>(1, k.size(1));
  reasons.add_if(v.sizes() != k.sizes(), "values and keys of different sizes");
  reasons.add_if(d < kLeastFeatures || d > kernels::kMostDecodeFeatures || !is_power_of_two(d),
                 "the features of a head");
  const bool fits =
      group == 1 || group == 2 || group == 3 || group == 4 || group == 6 || group == 8;
  reasons.add_if(!fits || group * d > kernels::kMostDecodeGroupFeatures,
                 "the heads that share a key");
  reasons.add_if(q.size(2) != 1 || k.size(2) != filled.capacity ||
                     filled.count.numel() != k.size(0) * k.size(1),
                 "not one query on all keys of the cache");
  reasons.add_if(!k.is_contiguous() || !v.is_contiguous(), "keys or values are not dense");
}

Reasons decode_reasons(const AttendCall& call) {
  const auto* mask = call.program.find<stages::Mask>();
  if (!mask || !mask->filled.defined()) return Reasons("not one query on a static cache");
  auto reasons = reasons_against_fused(call);
  const auto parameters = decode_stages().read(call, reasons);
  if (!call.q.is_cuda()) {
    reasons.add("not on a CUDA device");
    return reasons;
  }
  const auto of_kernels = cuda_kernel_reasons(call.q, "q");
  for (const auto& reason : of_kernels.list()) reasons.add(reason);
  reasons.add_if(call.q.scalar_type() == at::kFloat, "not in 16 bits");
  add_unlike(reasons, call.q, call.k, "k");
  add_unlike(reasons, call.q, call.v, "v");
  reasons.add_if(records_gradient({call.q, call.k, call.v}), "gradients");
  add_reasons_of_sizes(call, parameters.filled, reasons);
  return reasons;
}

AttendResult run_decode(const AttendCall& call) {
  const auto parameters = decode_stages().read(call);
  const auto q = with_dense_features(call.q);
  kernels::DecodeAttention params;
  params.batch = q.size(0);
  params.heads = q.size(1);
  params.kv_heads = call.k.size(1);
  params.capacity = call.k.size(2);
  params.dim = q.size(3);
  // Each part has at least so many keys, and there are no more blocks than some two a
  // multiprocessor.
  constexpr int64_t kKeysOfPart = 256, kBlocks = 264;
  const auto rows = params.batch * params.kv_heads;
  params.splits = std::clamp<int64_t>(params.capacity / kKeysOfPart, 1,
                                      std::max<int64_t>(1, kBlocks / std::max<int64_t>(1, rows)));
  const auto out = at::empty({params.batch, params.heads, 1, params.dim}, q.options());
  at::Tensor partial;
  if (params.splits > 1) {
    partial = at::empty({rows, params.splits, params.heads / params.kv_heads, params.dim + 2},
                        q.options().dtype(at::kFloat));
  }
  params.q = q.const_data_ptr();
  params.k = call.k.const_data_ptr();
  params.v = call.v.const_data_ptr();
  params.out = out.mutable_data_ptr();
  params.partial = mutable_data_or_null(partial);
  params.count = parameters.filled.count.const_data_ptr<int>();
  params.element = element_of(q);
  params.q_strides[0] = q.stride(0);
  params.q_strides[1] = q.stride(1);
  params.scale = static_cast<float>(parameters.scale);
  our_cuda_kernels().launchers->decode_attention(params, q.device().index());
  return {out, {}};
}

}  // namespace

ListedEngine decode_engine() {
  return {{"decode", decode_reasons, run_decode},
          [](StageType stage) { return decode_stages().contains(stage); }};
}

}  // namespace x_transformers
