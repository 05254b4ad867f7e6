// Attention of one query on a static cache by a kernel of ours, which may write the query's own key
// and value into the cache.
#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "x_transformers/ops/attend_appending.h"
#include "x_transformers/ops/attend_decode.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/kernel_tensors.h"
#include "x_transformers/ops/norm.h"

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

/// How many parts the keys of a row are cut into, where without that there are so many blocks: so
/// that some of each multiprocessor's share them, in a cluster if that is enough.
int64_t splits_of(int64_t blocks, int64_t capacity) {
  constexpr int64_t kKeysOfPart = 384, kKeysOfLongPart = 1024, kMostBlocks = 132;
  int64_t splits = 1;
  while (splits < kernels::kMostDecodeCluster && splits * kKeysOfPart < capacity &&
         2 * splits * blocks <= kMostBlocks)
    splits *= 2;
  return std::max(
      splits, std::min(capacity / kKeysOfLongPart, 2 * kMostBlocks / std::max<int64_t>(1, blocks)));
}

kernels::DecodeAttention decode_params(const AttendCall& call, const at::Tensor& q,
                                       const at::Tensor& out, const at::Tensor& partial) {
  const auto parameters = decode_stages().read(call);
  kernels::DecodeAttention params;
  params.batch = q.size(0);
  params.heads = q.size(1);
  params.kv_heads = call.k.size(1);
  params.capacity = call.k.size(2);
  params.dim = q.size(3);
  params.splits = partial.size(1);
  params.q = q.const_data_ptr();
  params.k = call.k.data_ptr();
  params.v = call.v.data_ptr();
  params.out = out.mutable_data_ptr();
  params.partial = partial.mutable_data_ptr<float>();
  params.count = parameters.filled.count.const_data_ptr<int>();
  params.element = element_of(q);
  params.q_strides[0] = q.stride(0);
  params.q_strides[1] = q.stride(1);
  params.scale = static_cast<float>(parameters.scale);
  return params;
}

/// `newest` may be null.
AttendResult run(const AttendCall& call, const kernels::NewestKey* newest) {
  const auto q = with_dense_features(call.q);
  const auto rows = q.size(0) * call.k.size(1), heads = q.size(0) * q.size(1);
  const auto splits = splits_of(heads <= kernels::kFewDecodeHeads ? heads : rows, call.k.size(2));
  const auto out = at::empty({q.size(0), q.size(1), 1, q.size(3)}, q.options());
  const auto partial =
      at::empty({splits > 1 ? rows : 0, splits, q.size(1) / call.k.size(1), q.size(3) + 2},
                q.options().dtype(at::kFloat));
  auto params = decode_params(call, q, out, partial);
  if (newest != nullptr) params.newest = *newest;
  our_cuda_kernels().launchers->decode_attention(params, q.device().index());
  return {out, {}};
}

AttendResult run_decode(const AttendCall& call) { return run(call, nullptr); }

/// The row of a table [b or 1, n, r / 2] of its last position.
at::Tensor last_row(const at::Tensor& table) { return table.select(1, table.size(1) - 1); }

void add_reasons_of_newest(const at::Tensor& q, const at::Tensor& cache, const NewestKey& newest,
                           Reasons& reasons) {
  const auto sizes = std::vector<int64_t>{cache.size(0), cache.size(1), 1, cache.size(3)};
  for (const auto* t : {&newest.k, &newest.v}) {
    add_unlike(reasons, q, *t, "the newest key or value");
    reasons.add_if(t->sizes() != sizes || t->stride(3) != 1, "the sizes of the newest key");
  }
  reasons.add_if(q.stride(3) != 1, "the features of q are not dense");
  for (const auto* scale : {&newest.q_scale, &newest.k_scale}) {
    if (!scale->defined()) continue;
    add_unlike(reasons, q, *scale, "a scale");
    const auto heads = scale == &newest.q_scale ? q.size(1) : cache.size(1);
    reasons.add_if(scale->numel() != heads * q.size(3) || !scale->is_contiguous(),
                   "a scale is not of each head's features");
  }
  reasons.add_if(records_gradient({newest.k, newest.v, newest.q_scale, newest.k_scale}),
                 "gradients");
}

void add_reasons_of_rotation(const at::Tensor& q, const RotaryTable& table, Reasons& reasons) {
  constexpr int64_t kPairsOfLane = 4;
  const auto pairs = table.cos.size(2);
  reasons.add_if(pairs % kPairsOfLane != 0 || 2 * pairs > q.size(3), "the rotated features");
  for (const auto* part : {&table.cos, &table.sin, &table.scale}) {
    if (!part->defined()) continue;
    reasons.add_if(part->device() != q.device() || part->scalar_type() != at::kFloat ||
                       !is_plain_on_cuda(*part) || part->requires_grad(),
                   "the table is not plain float32 beside q");
    reasons.add_if(part->sizes() != table.cos.sizes() || part->strides() != table.cos.strides() ||
                       part->stride(2) != 1 || (part->size(0) != 1 && part->size(0) != q.size(0)),
                   "the sizes of the table");
  }
}

kernels::NewestKey newest_params(const NewestKey& newest) {
  kernels::NewestKey params;
  params.k = newest.k.const_data_ptr();
  params.v = newest.v.const_data_ptr();
  for (const int i : {0, 1}) {
    params.k_strides[i] = newest.k.stride(i);
    params.v_strides[i] = newest.v.stride(i);
  }
  params.normalises = newest.normalises;
  params.least_norm = static_cast<float>(kLeastNorm);
  if (newest.q_scale.defined()) params.q_scale = newest.q_scale.const_data_ptr();
  if (newest.k_scale.defined()) params.k_scale = newest.k_scale.const_data_ptr();
  if (!newest.rotation) return params;
  const auto& table = *newest.rotation;
  auto& rotation = params.rotation;
  rotation.cos = data_or_null(last_row(table.cos));
  rotation.sin = data_or_null(last_row(table.sin));
  if (table.scale.defined()) rotation.scale = data_or_null(last_row(table.scale));
  rotation.batch_stride = table.cos.size(0) == 1 ? 0 : table.cos.stride(0);
  rotation.rotated = 2 * table.cos.size(2);
  return params;
}

}  // namespace

ListedEngine decode_engine() {
  return {{"decode", decode_reasons, run_decode},
          [](StageType stage) { return decode_stages().contains(stage); }};
}

Reasons attend_appending_reasons(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const NewestKey& newest, const ScoreProgram& program) {
  auto reasons = decode_reasons({q, k, v, program, /*keep_maps=*/false});
  if (!reasons.empty()) return reasons;
  add_reasons_of_newest(q, k, newest, reasons);
  if (newest.rotation) add_reasons_of_rotation(q, *newest.rotation, reasons);
  return reasons;
}

std::optional<AttendResult> attend_appending(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const NewestKey& newest,
                                             const ScoreProgram& program) {
  if (!attend_appending_reasons(q, k, v, newest, program).empty()) return std::nullopt;
  const auto params = newest_params(newest);
  return run({q, k, v, program, /*keep_maps=*/false}, &params);
}

}  // namespace x_transformers
