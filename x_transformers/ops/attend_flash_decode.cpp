// Flash attention of LibTorch for one query on a static cache.
#include <ATen/ATen.h>

#include <mutex>
#include <optional>
#include <unordered_map>

#include "x_transformers/ops/attend_engine.h"

namespace x_transformers {
namespace {

struct FlashDecodeParameters {
  double scale = 1.0;
  FilledKeys filled;
};

const KnownStages<FlashDecodeParameters>& flash_decode_stages() {
  using P = FlashDecodeParameters;
  static const auto all =
      KnownStages<P>()
          .add<stages::DotProduct>(
              [](const auto& s, const AttendCall&, P& p, Reasons&) { p.scale = s.scale; })
          .add<stages::Mask>([](const auto& s, const AttendCall&, P& p, Reasons& reasons) {
            p.filled = s.cached.filled;  // the mask says no more
            reasons.add_if(s.cached.visible.defined(), "a mask of keys");
            reasons.add_if(s.cached.past.has_value(), "a window");
            reasons.add_if(s.cached.front > 0, "keys in front of the cache");
          })
          .add<stages::Causal>()  // one query sees every key
          .add<stages::Softmax>();
  return all;
}

/// Whether flash attention is in this LibTorch and runs on this GPU: asked of it once, with a call.
bool has_flash_attention(const at::Device& device) {
  static std::mutex mutex;
  static std::unordered_map<at::Device, bool> known;
  const std::lock_guard lock(mutex);
  const auto [found, is_new] = known.try_emplace(device, false);
  if (!is_new) return found->second;
  try {
    const at::NoGradGuard no_grad;
    const auto rows = at::zeros({1, 1, 8}, at::TensorOptions().dtype(at::kHalf).device(device));
    const auto starts = at::arange(2, at::TensorOptions().dtype(at::kInt).device(device));
    at::_flash_attention_forward(rows, rows, rows, starts, starts, 1, 1, 0.0, false, false);
    found->second = true;
  } catch (const c10::Error&) {
  }
  return found->second;
}

void add_reasons_of_shape(const AttendCall& call, const FilledKeys& filled, Reasons& reasons) {
  constexpr int64_t kMaxFeatures = 256, kMultiple = 8;
  const auto &q = call.q, &k = call.k, &v = call.v;
  const auto d = q.size(3);
  reasons.add_if(v.size(3) != d || d > kMaxFeatures || d % kMultiple != 0,
                 "the features of a head");
  reasons.add_if(v.size(1) != k.size(1), "values with more heads than keys");
  reasons.add_if(q.size(2) != 1 || k.size(2) != filled.capacity ||
                     filled.count.numel() != k.size(0) * k.size(1),
                 "not one query on all keys of the cache");
  reasons.add_if(!k.is_contiguous() || !v.is_contiguous(), "keys or values are not dense");
}

Reasons flash_decode_reasons(const AttendCall& call) {
  const auto &q = call.q, &k = call.k, &v = call.v;
  const auto* mask = call.program.find<stages::Mask>();
  if (!mask || !mask->cached.defined()) return Reasons("not one query on a static cache");
  auto reasons = reasons_against_fused(call);
  const auto parameters = flash_decode_stages().read(call, reasons);
  reasons.add_if(!call.program.allow_flash || !at::globalContext().userEnabledFlashSDP(),
                 "flash attention is turned off");
  reasons.add_if(!q.is_cuda(), "not on a CUDA device");
  reasons.add_if(q.scalar_type() != at::kBFloat16 && q.scalar_type() != at::kHalf,
                 "not in 16 bits");
  add_reasons_of_shape(call, parameters.filled, reasons);
  reasons.add_if(
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad()),
      "gradients");
  if (reasons.empty())
    reasons.add_if(!has_flash_attention(q.device()), "no flash attention on this GPU");
  return reasons;
}

/// As for sequences of different lengths: each row of the buffers is one, and no mask is made.
AttendResult run_flash_decode(const AttendCall& call) {
  const auto &q = call.q, &k = call.k, &v = call.v;
  const auto parameters = flash_decode_stages().read(call);
  const auto& filled = parameters.filled;
  const auto batch = q.size(0), heads = q.size(1), d = q.size(3);
  const auto kv_heads = k.size(1), capacity = k.size(2), groups = heads / kv_heads;
  const auto rows = batch * kv_heads;
  // Query head h uses key head h % kv_heads.
  const auto queries =
      q.reshape({batch, groups, kv_heads, d}).transpose(1, 2).reshape({rows, groups, d});
  const auto out = std::get<0>(at::_flash_attention_forward(
      queries, k.view({rows * capacity, 1, d}), v.view({rows * capacity, 1, d}),
      filled.query_starts, filled.key_starts, 1, capacity, 0.0, false, false, parameters.scale,
      std::nullopt, std::nullopt, filled.count, std::nullopt));
  return {out.view({batch, kv_heads, groups, d}).transpose(1, 2).reshape({batch, heads, 1, d}), {}};
}

}  // namespace

ListedEngine flash_decode_engine() {
  return {{"flash_decode", flash_decode_reasons, run_flash_decode},
          [](StageType stage) { return flash_decode_stages().contains(stage); }};
}

}  // namespace x_transformers
