// Attention of one query on a static cache by a kernel of ours, which may write the query's own key
// and value into the cache.
#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "x_transformers/ops/attend_appending.h"
#include "x_transformers/ops/attend_engine.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/kernel_tensors.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {
namespace {

/// Fewer keys than this are not cut into parts for several blocks of a cluster. A block begins to
/// read 128 keys of 64 features, and half as many of 128, before the kernel before it is over.
constexpr int64_t kKeysOfPart = 128;

struct DecodeParameters {
  double scale = 1.0, softclamp = 0;
  CachedKeys keys;
  at::Tensor bias;          ///< [b or 1, h or 1, capacity, or that and keys.front]
  at::Tensor queries_bias;  ///< [b, h, 1], beside `bias`; or undefined
  at::Tensor sink;          ///< [h]
};

/// Whether numbers beside q's scores can be read: of its type or float32, on its device.
bool fits_scores(const at::Tensor& t, const at::Tensor& q) {
  return (t.scalar_type() == q.scalar_type() || t.scalar_type() == at::kFloat) &&
         t.device() == q.device();
}

void read_bias(const at::Tensor& bias, const AttendCall& call, DecodeParameters& p,
               Reasons& reasons) {
  const auto &q = call.q, &k = call.k;
  auto of_keys = bias;
  while (of_keys.dim() < 4) of_keys = of_keys.unsqueeze(0);
  const auto is_one_of = [](int64_t size, int64_t all) { return size == 1 || size == all; };
  const bool fits = is_one_of(of_keys.size(0), q.size(0)) &&
                    is_one_of(of_keys.size(1), q.size(1)) && of_keys.size(2) == 1 &&
                    is_one_of(of_keys.size(3), k.size(2));
  reasons.add_if(!fits || p.bias.defined(), "the sizes of the bias, or two of them");
  reasons.add_if(!fits_scores(bias, q), "the type of the bias");
  if (fits) p.bias = of_keys.expand({-1, -1, -1, k.size(2)}).squeeze(2);
}

void read_token_bias(const stages::TokenBias& s, const AttendCall& call, DecodeParameters& p,
                     Reasons& reasons) {
  const auto batch = call.q.size(0), heads = call.q.size(1);
  const bool fits = s.queries.sizes() == at::IntArrayRef({batch, heads, 1}) && s.keys.dim() == 3 &&
                    s.keys.size(0) == batch && s.keys.size(1) == heads &&
                    s.keys.size(2) <= call.k.size(2);
  reasons.add_if(!fits || p.bias.defined(), "the sizes of the bias, or two of them");
  reasons.add_if(!fits_scores(s.keys, call.q) || s.keys.scalar_type() != s.queries.scalar_type(),
                 "the type of the bias");
  p.bias = s.keys;
  p.queries_bias = s.queries;
}

/// The product, the biases that static caches have, the softclamp, a mask known as CachedKeys,
/// causal, sinks and the softmax.
const KnownStages<DecodeParameters>& decode_stages() {
  using P = DecodeParameters;
  using Call = AttendCall;
  static const auto all =
      KnownStages<P>()
          .add<stages::DotProduct>(
              [](const auto& s, const Call&, P& p, Reasons&) { p.scale = s.scale; })
          .add<stages::TokenBias>(read_token_bias)
          .add<stages::Bias>([](const auto& s, const Call& call, P& p, Reasons& reasons) {
            read_bias(s.bias, call, p, reasons);
          })
          .add<stages::Softclamp>(
              [](const auto& s, const Call&, P& p, Reasons&) { p.softclamp = s.bound; })
          .add<stages::Mask>([](const auto& s, const Call&, P& p, Reasons&) { p.keys = s.cached; })
          .add<stages::Causal>()  // one query sees every key
          .add<stages::HeadSink>([](const auto& s, const Call& call, P& p, Reasons& reasons) {
            p.sink = s.scores;
            reasons.add_if(s.scores.numel() != call.q.size(1) || !fits_scores(s.scores, call.q),
                           "the size or type of the sinks");
          })
          .add<stages::Softmax>();
  return all;
}

bool is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

void add_reasons_of_sizes(const AttendCall& call, const CachedKeys& keys, Reasons& reasons) {
  constexpr int64_t kMinFeatures = 8;
  const auto &q = call.q, &k = call.k, &v = call.v;
  const auto d = q.size(3);
  reasons.add_if(v.sizes() != k.sizes(), "values and keys of different sizes");
  reasons.add_if(d < kMinFeatures || d > kernels::kMaxDecodeFeatures || !is_power_of_two(d),
                 "the features of a head");
  reasons.add_if(k.size(1) == 0 || q.size(1) % std::max<int64_t>(1, k.size(1)) != 0,
                 "the heads that share a key");
  const auto& filled = keys.filled;
  reasons.add_if(q.size(2) != 1 || k.size(2) != keys.front + filled.capacity ||
                     filled.count.numel() != k.size(0) * k.size(1),
                 "not one query on all keys of the cache");
  reasons.add_if(!k.is_contiguous() || !v.is_contiguous(), "keys or values are not dense");
  const auto& visible = keys.visible;
  if (!visible.defined()) return;
  const bool is_of_keys = visible.dim() == 2 &&
                          (visible.size(0) == 1 || visible.size(0) == q.size(0)) &&
                          visible.size(1) == filled.capacity &&
                          visible.scalar_type() == at::kBool && visible.device() == q.device();
  reasons.add_if(!is_of_keys, "the mask is not of the keys of the cache");
}

Reasons decode_reasons(const AttendCall& call) {
  const auto* mask = call.program.find<stages::Mask>();
  if (!mask || !mask->cached.defined()) return Reasons("not one query on a static cache");
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
  reasons.add_if(records_gradient({call.q, call.k, call.v, parameters.bias, parameters.queries_bias,
                                   parameters.sink}),
                 "gradients");
  add_reasons_of_sizes(call, parameters.keys, reasons);
  if (parameters.bias.defined()) {
    const auto beyond = parameters.bias.size(2) - parameters.keys.filled.capacity;
    reasons.add_if(beyond != 0 && beyond != parameters.keys.front, "the keys of the bias");
  }
  return reasons;
}

/// How many parts `keys` of a row are cut into, where without that there are so many blocks: so
/// that some of each multiprocessor's share them, in a cluster if that is enough.
int64_t splits_of(int64_t blocks, int64_t keys) {
  constexpr int64_t kKeysOfLongPart = 1024, kMaxBlocks = 132;
  int64_t splits = 1;
  while (splits < kernels::kMaxDecodeCluster && splits * kKeysOfPart < keys &&
         2 * splits * blocks <= kMaxBlocks)
    splits *= 2;
  return std::max(splits,
                  std::min(keys / kKeysOfLongPart, 2 * kMaxBlocks / std::max<int64_t>(1, blocks)));
}

/// Stride `dim` of a tensor that is broadcast where its size is 1.
int64_t stride_or_none(const at::Tensor& t, int64_t dim) {
  return t.size(dim) == 1 ? 0 : t.stride(dim);
}

/// What params of a call refer to beside it; kept until the kernel is launched.
struct DecodeTensors {
  at::Tensor q, out, partial, bias, visible, sink;
};

kernels::DecodeBias bias_params(const DecodeParameters& parameters, const at::Tensor& bias) {
  kernels::DecodeBias params;
  if (!bias.defined()) return params;
  const auto capacity = parameters.keys.filled.capacity, in_front = bias.size(2) - capacity;
  params.keys = bias.narrow(2, in_front, capacity).const_data_ptr();
  params.is_of_front = in_front > 0;
  params.is_float32 = bias.scalar_type() == at::kFloat;
  for (const int i : {0, 1}) params.key_strides[i] = stride_or_none(bias, i);
  const auto& of_queries = parameters.queries_bias;
  if (!of_queries.defined()) return params;
  params.queries = of_queries.const_data_ptr();
  for (const int i : {0, 1}) params.query_strides[i] = stride_or_none(of_queries, i);
  return params;
}

kernels::DecodeStages stages_params(const AttendCall& call, const DecodeParameters& parameters,
                                    const DecodeTensors& tensors) {
  kernels::DecodeStages params;
  params.bias = bias_params(parameters, tensors.bias);
  params.softclamp = static_cast<float>(parameters.softclamp);
  if (tensors.visible.defined()) {
    params.visible = tensors.visible.const_data_ptr<bool>();
    params.visible_stride = stride_or_none(tensors.visible, 0);
  }
  const auto capacity = parameters.keys.filled.capacity;
  if (parameters.keys.past) params.past = std::min(*parameters.keys.past, capacity);
  if (tensors.sink.defined()) {
    params.sink = tensors.sink.const_data_ptr();
    params.sink_is_float32 = tensors.sink.scalar_type() == at::kFloat;
  }
  const auto front = parameters.keys.front;
  if (front > 0) {
    params.front = {call.k.const_data_ptr(), call.v.const_data_ptr(), {}, front, false};
    for (const int i : {0, 1}) params.front.strides[i] = call.k.stride(i);
  }
  return params;
}

kernels::DecodeAttention decode_params(const AttendCall& call, const DecodeParameters& parameters,
                                       const DecodeTensors& tensors) {
  const auto& q = tensors.q;
  const auto first = parameters.keys.front;
  kernels::DecodeAttention params;
  params.batch = q.size(0);
  params.heads = q.size(1);
  params.kv_heads = call.k.size(1);
  params.row_keys = call.k.size(2);
  params.dim = q.size(3);
  params.splits = tensors.partial.size(1);
  params.q = q.const_data_ptr();
  params.k = call.k.narrow(2, first, call.k.size(2) - first).data_ptr();
  params.v = call.v.narrow(2, first, call.v.size(2) - first).data_ptr();
  params.out = tensors.out.mutable_data_ptr();
  params.partial = tensors.partial.mutable_data_ptr<float>();
  params.count = parameters.keys.filled.count.const_data_ptr<int>();
  params.element = element_of(q);
  params.q_strides[0] = q.stride(0);
  params.q_strides[1] = q.stride(1);
  params.scale = static_cast<float>(parameters.scale);
  params.stages = stages_params(call, parameters, tensors);
  return params;
}

at::Tensor with_dense_last(const at::Tensor& t) {
  return !t.defined() || t.stride(-1) == 1 ? t : t.contiguous();
}

/// What attend_appending has beside the cache.
struct Appended {
  kernels::NewestKey newest;
  kernels::DecodeFront front;
  bool has_zero_key = false;
};

/// `appended` may be null.
AttendResult run(const AttendCall& call, const Appended* appended) {
  const auto parameters = decode_stages().read(call);
  const auto& keys = parameters.keys;
  DecodeTensors tensors;
  tensors.q = with_dense_features(call.q);
  tensors.bias = with_dense_last(parameters.bias);
  tensors.visible = with_dense_last(keys.visible);
  tensors.sink = with_dense_last(parameters.sink);
  const auto& q = tensors.q;
  const auto rows = q.size(0) * call.k.size(1), heads = q.size(0) * q.size(1);
  const auto of_cache = keys.filled.capacity;
  const auto read = (keys.past ? std::min(of_cache - 1, *keys.past) + 1 : of_cache) + keys.front +
                    (appended != nullptr ? appended->front.count : 0);
  const auto splits = splits_of(heads <= kernels::kFewDecodeHeads ? heads : rows, read);
  tensors.out = at::empty({q.size(0), q.size(1), 1, q.size(3)}, q.options());
  tensors.partial =
      at::empty({splits > 1 ? rows : 0, splits, q.size(1) / call.k.size(1), q.size(3) + 2},
                q.options().dtype(at::kFloat));
  auto params = decode_params(call, parameters, tensors);
  if (appended != nullptr) {
    params.newest = appended->newest;
    params.stages.has_zero_key = appended->has_zero_key;
    if (appended->front.count > 0) params.stages.front = appended->front;
  }
  our_cuda_kernels().launchers->decode_attention(params, q.device().index());
  return {tensors.out, {}};
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
  reasons.add_if(records_gradient({newest.k, newest.v, newest.q_scale, newest.k_scale,
                                   newest.front.k, newest.front.v}),
                 "gradients");
}

void add_reasons_of_front(const at::Tensor& q, const at::Tensor& cache, const KeysInFront& front,
                          Reasons& reasons) {
  if (!front.k.defined()) return;
  for (const auto* t : {&front.k, &front.v}) {
    add_unlike(reasons, q, *t, "a key or value in front");
    const bool fits = t->dim() == 3 && t->size(0) == cache.size(1) &&
                      t->size(1) == front.k.size(1) && t->size(2) == cache.size(3);
    reasons.add_if(!fits || !t->is_contiguous(), "the sizes of the keys in front");
  }
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
  params.least_norm = static_cast<float>(kMinNorm);
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

kernels::DecodeFront front_params(const NewestKey& newest) {
  kernels::DecodeFront params;
  const auto& front = newest.front;
  if (!front.k.defined()) return params;
  params.k = front.k.const_data_ptr();
  params.v = front.v.const_data_ptr();
  params.strides[1] = front.k.stride(0);
  params.count = front.k.size(1);
  params.prepares = newest.normalises || newest.k_scale.defined();
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
  reasons.add_if(program.find<stages::Mask>()->cached.front > 0, "keys in front within the cache");
  add_reasons_of_newest(q, k, newest, reasons);
  add_reasons_of_front(q, k, newest.front, reasons);
  if (newest.rotation) add_reasons_of_rotation(q, *newest.rotation, reasons);
  return reasons;
}

std::optional<AttendResult> attend_appending(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const NewestKey& newest,
                                             const ScoreProgram& program) {
  if (!attend_appending_reasons(q, k, v, newest, program).empty()) return std::nullopt;
  const Appended appended{newest_params(newest), front_params(newest), newest.front.has_zero};
  return run({q, k, v, program, /*keep_maps=*/false}, &appended);
}

}  // namespace x_transformers
