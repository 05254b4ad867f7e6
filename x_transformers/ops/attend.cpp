#include "x_transformers/ops/attend.h"

#include <ATen/ATen.h>

#include <limits>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "x_transformers/kernels/cpu/attention.h"
#include "x_transformers/ops/attend_cpu.h"
#include "x_transformers/ops/distance_features.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

struct Problem {
  const at::Tensor &q, &k, &v;
  const ScoreProgram& program;
  bool keep_maps;
};

struct Engine {
  const char* name;
  std::vector<std::string> (*unsupported)(const Problem&);
  AttendResult (*run)(const Problem&);
};

/// Reasons, each with what it is about.
class Reasons {
 public:
  void add_if(bool is_on, const char* reason) {
    if (is_on) list.emplace_back(reason);
  }
  std::vector<std::string> list;
};

/// Why only an engine that holds the whole score matrix can run this.
Reasons needs_scores(const Problem& problem) {
  const auto& program = problem.program;
  Reasons reasons;
  reasons.add_if(!program.allow_fused, "sdp_kwargs turns fused engines off");
  reasons.add_if(problem.keep_maps, "the attention map is asked for");
  reasons.add_if(program.prev_attn.defined(), "residual attention");
  reasons.add_if(program.pre_scale_post_talking_heads.defined(), "pre_scale_post_talking_heads");
  reasons.add_if(program.pre_talking_heads.defined(), "pre_talking_heads");
  reasons.add_if(static_cast<bool>(program.cope), "cope");
  reasons.add_if(program.selective, "selective");
  reasons.add_if(program.normaliser == Normaliser::sparse_topk, "sparse_topk");
  reasons.add_if(program.normaliser == Normaliser::custom, "custom_attn_fn");
  reasons.add_if(program.post_talking_heads.defined(), "post_talking_heads");
  return reasons;
}

/// As needs_scores, for engines that know a bias, masks and the softmax.
Reasons needs_more_than_softmax(const Problem& problem) {
  const auto& program = problem.program;
  auto reasons = needs_scores(problem);
  reasons.add_if(program.softclamp.has_value(), "softclamp_logits");
  reasons.add_if(program.cog_signed, "cog_signed");
  reasons.add_if(program.head_sink.defined(), "head_learned_sink");
  reasons.add_if(program.normaliser != Normaliser::softmax, "a normaliser other than softmax");
  return reasons;
}

FlashAttentionCpuOptions flash_cpu_options(const ScoreProgram& program) {
  FlashAttentionCpuOptions options;
  options.scale = program.scale;
  options.bias = program.bias;
  options.softclamp = program.softclamp.value_or(0.0);
  options.cog_signed = program.cog_signed;
  options.mask = program.mask;
  options.causal = program.causal;
  options.sinks = program.head_sink;
  options.gumbel = program.normaliser == Normaliser::gumbel_softmax;
  options.temperature = program.gumbel_temperature;
  options.sigmoid = program.normaliser == Normaliser::sigmoid;
  options.hard = program.normaliser == Normaliser::hard || (options.gumbel && program.gumbel_hard);
  options.dropout = program.dropout;
  return options;
}

std::vector<std::string> flash_cpu_unsupported(const Problem& problem) {
  const auto& [q, k, v, program, keep_maps] = problem;
  auto reasons = needs_scores(problem).list;
  const auto reason = flash_attention_cpu_unsupported(q, k, v, flash_cpu_options(program));
  if (!reason.empty()) reasons.push_back(reason);
  if (program.l2_distance && q.size(3) + distance_feature_count(q) > kernels::kMostHeadFeatures) {
    reasons.emplace_back("l2_distance needs more features than there may be");
  }
  return reasons;
}

/// Draws from PyTorch's generator, so that seeds and resumed runs know of it.
int64_t draw_seed() { return at::empty({}, at::kLong).random_().item<int64_t>(); }

AttendResult run_flash_cpu(const Problem& problem) {
  const auto& [q, k, v, program, keep_maps] = problem;
  auto options = flash_cpu_options(program);
  if (program.cog_signed && options.sinks.defined()) options.sinks = options.sinks.abs();
  if (options.dropout > 0 || options.gumbel) options.seed = draw_seed();
  if (!program.l2_distance) return {flash_attention_cpu(q, k, v, options), {}};
  options.scale *= 2;
  const auto features = distance_features(q, k);
  return {flash_attention_cpu(features.q, features.k, v, options), {}};
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

std::vector<std::string> flash_decode_unsupported(const Problem& problem) {
  const auto& [q, k, v, program, keep_maps] = problem;
  if (!program.filled.defined()) return {"not one query on a cache of fixed size"};
  auto reasons = needs_more_than_softmax(problem);
  constexpr int64_t kMostFeatures = 256, kMultiple = 8;
  const auto d = q.size(3);
  reasons.add_if(program.l2_distance, "l2_distance");
  reasons.add_if(program.bias.defined(), "a bias");
  reasons.add_if(program.dropout > 0, "dropout of the weights");
  reasons.add_if(!program.allow_flash || !at::globalContext().userEnabledFlashSDP(),
                 "flash attention is turned off");
  reasons.add_if(!q.is_cuda(), "not on a CUDA device");
  reasons.add_if(q.scalar_type() != at::kBFloat16 && q.scalar_type() != at::kHalf,
                 "not in 16 bits");
  reasons.add_if(v.size(3) != d || d > kMostFeatures || d % kMultiple != 0,
                 "the features of a head");
  reasons.add_if(v.size(1) != k.size(1), "values with more heads than keys");
  reasons.add_if(q.size(2) != 1 || k.size(2) != program.filled.capacity ||
                     program.filled.count.numel() != k.size(0) * k.size(1),
                 "not one query on all keys of the cache");
  reasons.add_if(!k.is_contiguous() || !v.is_contiguous(), "keys or values are not dense");
  reasons.add_if(
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad()),
      "gradients");
  if (reasons.list.empty())
    reasons.add_if(!has_flash_attention(q.device()), "no flash attention on this GPU");
  return reasons.list;
}

/// Flash attention for sequences of different lengths: each row of the buffers is one, and no mask
/// is made.
AttendResult run_flash_decode(const Problem& problem) {
  const auto& [q, k, v, program, keep_maps] = problem;
  const auto batch = q.size(0), heads = q.size(1), d = q.size(3);
  const auto kv_heads = k.size(1), capacity = k.size(2), groups = heads / kv_heads;
  const auto rows = batch * kv_heads;
  // Query head h uses key head h % kv_heads.
  const auto queries =
      q.reshape({batch, groups, kv_heads, d}).transpose(1, 2).reshape({rows, groups, d});
  const auto& filled = program.filled;
  const auto out = std::get<0>(at::_flash_attention_forward(
      queries, k.view({rows * capacity, 1, d}), v.view({rows * capacity, 1, d}),
      filled.query_starts, filled.key_starts, 1, capacity, 0.0, false, false, program.scale,
      std::nullopt, std::nullopt, filled.count, std::nullopt));
  return {out.view({batch, kv_heads, groups, d}).transpose(1, 2).reshape({batch, heads, 1, d}), {}};
}

std::vector<std::string> sdpa_unsupported(const Problem& problem) {
  auto reasons = needs_more_than_softmax(problem);
  // On the CPU LibTorch's kernels hold the scores anyway.
  reasons.add_if(problem.program.l2_distance && !problem.q.is_cuda(), "l2_distance");
  reasons.add_if(problem.program.l2_distance && problem.q.scalar_type() == at::kHalf,
                 "l2_distance in float16, whose range its squares leave");
  reasons.add_if(problem.k.size(2) == 0, "there are no keys");
  return reasons.list;
}

AttendResult run_sdpa(const Problem& problem);

/// Distances as products. LibTorch's flash attention wants as many features of values as of keys,
/// and a multiple of eight.
AttendResult run_sdpa_of_distances(const Problem& problem) {
  constexpr int64_t kMultiple = 8;
  const auto& [q, k, v, program, keep_maps] = problem;
  const auto features = distance_features(q, k, v.size(-1), kMultiple);
  const auto padded = at::constant_pad_nd(v, {0, features.q.size(-1) - v.size(-1)}, 0);
  auto products = program;
  products.l2_distance = false;
  products.scale *= 2;
  const auto result = run_sdpa({features.q, features.k, padded, products, keep_maps});
  return {result.out.narrow(-1, 0, v.size(-1)), {}};
}

/// scaled_dot_product_attention for a score program of scale, bias and masks.
AttendResult run_sdpa(const Problem& problem) {
  if (problem.program.l2_distance) return run_sdpa_of_distances(problem);
  const auto& [q_given, k_given, v_given, program, keep_maps] = problem;
  const auto heads = q_given.size(1), kv_heads = k_given.size(1);
  const auto i = q_given.size(2), j = k_given.size(2);
  bool causal = program.causal && i > 1;
  auto mask = program.mask;
  // The fused kernels align their causal mask top left and take no second mask beside it.
  if (causal && (i != j || mask.defined() || program.bias.defined())) {
    mask = mask_and(mask, causal_mask(i, j, q_given.device()));
    causal = false;
  }

  at::Tensor has_keys;
  if (program.mask.defined() && !program.filled.defined()) {
    has_keys = mask.any(-1, true);
    mask = mask | ~has_keys;  // keeps NaN out of rows that are zeroed below
  }
  if (mask.defined() && mask.dim() < 4) mask = mask.expand({1, 1, i, j});
  auto bias = mask;
  if (program.bias.defined()) {
    bias = program.bias.to(q_given.scalar_type());
    if (mask.defined()) bias = bias.masked_fill(~mask, -std::numeric_limits<double>::infinity());
    while (bias.dim() < 4) bias = bias.unsqueeze(0);
  }
  if (bias.defined()) bias = bias.expand({q_given.size(0), bias.size(1), i, j});

  auto q = q_given, k = k_given, v = v_given;
  // Values that were mixed for each query head have all heads, while keys are still grouped.
  const bool is_decode =
      i == 1 && kv_heads < heads && v.size(1) == kv_heads && (!bias.defined() || bias.size(1) == 1);
  if (is_decode) {
    // One query: the heads of a group are rows of one small product, and no key is copied.
    q = q.unflatten(1, {heads / kv_heads, kv_heads}).squeeze(3).transpose(1, 2);
    if (bias.defined()) bias = bias.expand({bias.size(0), 1, heads / kv_heads, j});
  } else {
    k = repeat_heads(k, heads);
    v = repeat_heads(v, heads);
  }
  const auto attn_mask = bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt;
  auto out =
      at::scaled_dot_product_attention(q, k, v, attn_mask, program.dropout, causal, program.scale);
  if (is_decode) out = out.transpose(1, 2).flatten(1, 2).unsqueeze(2);
  if (has_keys.defined()) out = out.masked_fill(~has_keys, 0);
  return {out, {}};
}

std::vector<std::string> nothing_unsupported(const Problem&) { return {}; }

AttendResult run_reference(const Problem& problem) {
  return attend_reference(problem.q, problem.k, problem.v, problem.program, problem.keep_maps);
}

/// In order of preference.
const std::vector<Engine>& engines() {
  static const std::vector<Engine> all = {
      {"flash_cpu", flash_cpu_unsupported, run_flash_cpu},
      {"flash_decode", flash_decode_unsupported, run_flash_decode},
      {"sdpa", sdpa_unsupported, run_sdpa},
      {"reference", nothing_unsupported, run_reference},
  };
  return all;
}

}  // namespace

AttendResult attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const ScoreProgram& program, bool keep_maps) {
  const Problem problem{q, k, v, program, keep_maps};
  for (const auto& engine : engines()) {
    if (engine.unsupported(problem).empty()) return engine.run(problem);
  }
  return run_reference(problem);
}

std::vector<EngineReport> explain_attend(const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v, const ScoreProgram& program,
                                         bool keep_maps) {
  const Problem problem{q, k, v, program, keep_maps};
  std::vector<EngineReport> reports;
  for (const auto& engine : engines())
    reports.push_back({engine.name, engine.unsupported(problem)});
  return reports;
}

}  // namespace x_transformers
