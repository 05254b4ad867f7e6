// The engine on attend_cpu.h: which stages it knows.
#include <ATen/ATen.h>

#include <optional>

#include "x_transformers/kernels/cpu/attention.h"
#include "x_transformers/ops/attend_cpu.h"
#include "x_transformers/ops/attend_engine.h"
#include "x_transformers/ops/distance_features.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

struct FlashCpuParameters {
  FlashAttentionCpuOptions options;
  bool l2_distance = false;
  std::optional<int64_t> window;
  PositionStage position;  ///< what becomes a matrix when it is run
};

const KnownStages<FlashCpuParameters>& flash_cpu_stages() {
  using Call = AttendCall;
  using P = FlashCpuParameters;
  using R = Reasons;
  static const auto all =
      KnownStages<FlashCpuParameters>()
          .add<stages::DotProduct>(
              [](const auto& s, const Call&, P& p, R&) { p.options.scale = s.scale; })
          .add<stages::L2Distance>([](const auto& s, const Call& call, P& p, R& reasons) {
            p.options.scale = s.scale;
            p.l2_distance = true;
            reasons.add_if(call.q.dim() == 4 && call.q.size(3) + distance_feature_count(call.q) >
                                                    kernels::kMaxHeadFeatures,
                           "l2_distance needs more features than there may be");
          })
          .add<stages::Alibi>([](const auto& s, const Call&, P& p, R&) {
            if (s.front == 0) {
              p.options.alibi_slopes = s.fixed();
            } else {
              p.position = s;
            }
          })
          .add<stages::DistanceBias>([](const auto& s, const Call&, P& p, R&) { p.position = s; })
          .add<stages::TokenBias>([](const auto& s, const Call&, P& p, R&) { p.position = s; })
          .add<stages::Bias>([](const auto& s, const Call&, P& p, R&) { p.options.bias = s.bias; })
          .add<stages::Softclamp>(
              [](const auto& s, const Call&, P& p, R&) { p.options.softclamp = s.bound; })
          .add<stages::CogSigned>(
              [](const auto&, const Call&, P& p, R&) { p.options.cog_signed = true; })
          .add<stages::Mask>(
              [](const auto& s, const Call&, P& p, R&) { p.options.mask = s.allowed; })
          .add<stages::Causal>([](const auto&, const Call&, P& p, R&) { p.options.causal = true; })
          .add<stages::Window>([](const auto& s, const Call&, P& p, R&) { p.window = s.past; })
          .add<stages::HeadSink>(
              [](const auto& s, const Call&, P& p, R&) { p.options.sinks = s.scores; })
          .add<stages::Softmax>()
          .add<stages::Sigmoid>(
              [](const auto&, const Call&, P& p, R&) { p.options.sigmoid = true; })
          .add<stages::Hard>([](const auto&, const Call&, P& p, R&) { p.options.hard = true; })
          .add<stages::GumbelSoftmax>([](const auto& s, const Call&, P& p, R& reasons) {
            p.options.gumbel = true;
            p.options.temperature = s.temperature;
            p.options.hard = s.hard;
            // The kernel draws its own.
            reasons.add_if(s.noise.defined(), "the noise is given");
          })
          .add<stages::Dropout>([](const auto& s, const Call&, P& p, R& reasons) {
            p.options.dropout = s.probability;
            reasons.add_if(s.factors.defined(), "the factors of dropout are given");
          });
  return all;
}

Reasons flash_cpu_reasons(const AttendCall& call) {
  auto reasons = reasons_against_fused(call);
  const auto parameters = flash_cpu_stages().read(call, reasons);
  reasons.add(flash_attention_cpu_unsupported(call.q, call.k, call.v, parameters.options));
  return reasons;
}

/// Drawn from PyTorch's generator, so that seeds and resumed runs reproduce it.
int64_t draw_seed() { return at::empty({}, at::kLong).random_().item<int64_t>(); }

AttendResult run_flash_cpu(const AttendCall& call) {
  auto [options, l2_distance, window, position] = flash_cpu_stages().read(call);
  options.bias = sum_of_biases(options.bias, bias_of(position, call.q.size(2), call.k.size(2)));
  if (window) {
    const auto seen = window_mask(call.q.size(2), call.k.size(2), *window, call.q.device());
    options.mask = mask_and(options.mask, seen);
  }
  if (options.dropout > 0 || options.gumbel) options.seed = draw_seed();
  if (!l2_distance) return {flash_attention_cpu(call.q, call.k, call.v, options), {}};
  options.scale *= 2;
  // Squares of distances are small differences of large numbers.
  const auto wide = [](const at::Tensor& t) { return t.to(at::kFloat); };
  const auto features = distance_features(wide(call.q), wide(call.k));
  const auto out = flash_attention_cpu(features.q, features.k, wide(call.v), options);
  return {out.to(call.q.scalar_type()), {}};
}

}  // namespace

ListedEngine flash_cpu_engine() {
  return {{"flash_cpu", flash_cpu_reasons, run_flash_cpu},
          [](StageType stage) { return flash_cpu_stages().contains(stage); }};
}

}  // namespace x_transformers
