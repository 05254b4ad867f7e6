#include "x_transformers/ops/rotary.h"

#include <ATen/ATen.h>

#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/rotary.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/heads_of_tokens.h"
#include "x_transformers/ops/kernel_tensors.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The rows of the last `n` positions.
RotaryTable last_rows(const RotaryTable& table, int64_t n) {
  if (table.cos.size(1) == n) return table;
  const auto cut = [n](const at::Tensor& t) {
    return t.defined() ? t.narrow(1, t.size(1) - n, n) : t;
  };
  return {cut(table.cos), cut(table.sin), cut(table.scale)};
}

RotaryTable dense(const RotaryTable& table) {
  return {table.cos.contiguous(), table.sin.contiguous(),
          table.scale.defined() ? table.scale.contiguous() : table.scale};
}

void check(const at::Tensor& t, const RotaryTable& table) {
  require(t.dim() == 4,
          "[apply_rotary] expected t [b, h, n, d], got " + std::to_string(t.dim()) + " dimensions");
  const auto& cos = table.cos;
  require(cos.defined() && cos.dim() == 3 && table.sin.defined() &&
              table.sin.sizes() == cos.sizes() &&
              (!table.scale.defined() || table.scale.sizes() == cos.sizes()),
          "[apply_rotary] expected tables of one shape [b or 1, n, rot_dim / 2]");
  require(cos.size(0) == 1 || cos.size(0) == t.size(0),
          "[apply_rotary] expected a table for 1 or " + std::to_string(t.size(0)) +
              " sequences, got " + std::to_string(cos.size(0)));
  require(cos.size(1) >= t.size(2), "[apply_rotary] expected a table of at least " +
                                        std::to_string(t.size(2)) + " positions, got " +
                                        std::to_string(cos.size(1)));
  require(2 * cos.size(2) <= t.size(3), "[apply_rotary] the table rotates " +
                                            std::to_string(2 * cos.size(2)) + " of only " +
                                            std::to_string(t.size(3)) + " features");
}

void copy_strides(const at::Tensor& t, int64_t (&strides)[3]) {
  for (int i = 0; i < 3; ++i) strides[i] = t.stride(i);
}

/// Whether t [b, h, n, d] lies in memory as [b, n, h, d], as after a projection.
bool positions_first(const at::Tensor& t) {
  return !t.is_contiguous() && t.stride(1) < t.stride(2);
}

enum class Direction { forwards, backwards };

/// The table is dense and has the positions of t; t and y have one shape and a dense last
/// dimension.
void run_kernel(const at::Tensor& t, const RotaryTable& table, bool inverse_scale,
                Direction direction, const at::Tensor& y) {
  if (t.numel() == 0) return;
  kernels::RotaryParams params;
  params.x = t.const_data_ptr();
  params.y = y.mutable_data_ptr();
  params.element = element_of(t);
  copy_strides(t, params.x_strides);
  copy_strides(y, params.y_strides);
  params.cos = table.cos.const_data_ptr<float>();
  params.sin = table.sin.const_data_ptr<float>();
  params.scale = table.scale.defined() ? table.scale.const_data_ptr<float>() : nullptr;
  params.table_batch_stride = table.cos.size(0) == 1 ? 0 : table.cos.stride(0);
  params.backwards = direction == Direction::backwards;
  params.inverse_scale = inverse_scale;
  params.batch = t.size(0);
  params.heads = t.size(1);
  params.length = t.size(2);
  params.dim = t.size(3);
  params.rotated = 2 * table.cos.size(2);
  t.is_cuda() ? our_cuda_kernels().launchers->rotary(params, t.device().index())
              : kernels::rotary(params);
}

at::Tensor run_forward(const at::Tensor& t, const RotaryTable& table, bool inverse_scale) {
  // Attention on CUDA reads either order, and gives what it is given: in the order of projections
  // the heads need no copy to be merged. Kernels of the CPU want dense heads.
  const bool keeps_order = t.is_cuda() && positions_first(t);
  auto y = keeps_order ? empty_positions_first_like(t) : at::empty(t.sizes(), t.options());
  run_kernel(t, table, inverse_scale, Direction::forwards, y);
  return y;
}

class RotaryFunction : public torch::autograd::Function<RotaryFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& t, const RotaryTable& table,
                            bool inverse_scale) {
    ctx->save_for_backward({table.cos, table.sin, table.scale});
    ctx->saved_data["positions_first"] = positions_first(t);
    ctx->saved_data["inverse_scale"] = inverse_scale;
    return run_forward(t, table, inverse_scale);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const RotaryTable table{saved[0], saved[1], saved[2]};
    const bool inverse_scale = ctx->saved_data["inverse_scale"].toBool();
    if (at::GradMode::is_enabled()) {
      // The rotation is linear, so its gradient is the rotation by minus the angles.
      const RotaryTable back{table.cos, -table.sin, table.scale};
      return {apply_rotary(output_grads[0], back, inverse_scale), {}, {}};
    }
    const auto y_grad = with_dense_features(output_grads[0]);
    auto sizes = y_grad.sizes().vec();
    const bool swap = ctx->saved_data["positions_first"].toBool();
    if (swap) std::swap(sizes[1], sizes[2]);
    auto t_grad = at::empty(sizes, y_grad.options());
    if (swap) t_grad = t_grad.transpose(1, 2);
    run_kernel(y_grad, table, inverse_scale, Direction::backwards, t_grad);
    return {t_grad, {}, {}};
  }
};

}  // namespace

std::string rotary_unsupported(const at::Tensor& t, const RotaryTable& table) {
  if (auto reason = cpu_kernel_unsupported(t, "t"); !reason.empty()) return reason;
  for (const auto& part : {table.cos, table.sin, table.scale}) {
    if (!part.defined()) continue;
    if (auto reason = cpu_kernel_unsupported(part, "the table"); !reason.empty()) return reason;
    if (part.scalar_type() != at::kFloat) return "the table is not float32";
    if (part.requires_grad()) return "the table wants a gradient";
  }
  if (2 * table.cos.size(2) > kernels::kMaxRotated) return "too many rotated features";
  return {};
}

RotaryTable make_rotary_table(const at::Tensor& positions, const at::Tensor& inv_freq,
                              double interpolation_factor, const at::Tensor& xpos_scale,
                              double scale_base, std::optional<double> center) {
  require(positions.dim() == 1 || positions.dim() == 2,
          "[make_rotary_table] expected positions [n] or [b, n], got " +
              std::to_string(positions.dim()) + " dimensions");
  const auto rows = positions.dim() == 1 ? positions.unsqueeze(0) : positions;
  const auto places = rows.to(inv_freq.scalar_type()).unsqueeze(-1);
  const auto angles = places * inv_freq / interpolation_factor;
  RotaryTable table{angles.cos().to(at::kFloat), angles.sin().to(at::kFloat), {}};
  if (!xpos_scale.defined()) return table;
  at::Tensor from_center = places;
  if (center.has_value()) {
    from_center = places - *center;
  } else if (positions.numel() > 0) {
    from_center = places - at::floor_divide(rows.max() + 1, 2).to(places.scalar_type());
  }
  table.scale = xpos_scale.pow(from_center / scale_base).to(at::kFloat);
  return table;
}

at::Tensor apply_rotary_reference(const at::Tensor& t, const RotaryTable& table,
                                  bool inverse_scale) {
  check(t, table);
  const auto rows = last_rows(table, t.size(2));
  const int64_t features = 2 * rows.cos.size(2);
  auto cos = rows.cos.unsqueeze(1), sin = rows.sin.unsqueeze(1);  // (b 1 n r/2)
  if (rows.scale.defined()) {
    const auto factor = inverse_scale ? rows.scale.reciprocal() : rows.scale;
    cos = cos * factor.unsqueeze(1);
    sin = sin * factor.unsqueeze(1);
  }
  const auto pairs = t.narrow(-1, 0, features).unflatten(-1, {features / 2, 2}).unbind(-1);
  auto rotated = at::stack({pairs[0] * cos - pairs[1] * sin, pairs[1] * cos + pairs[0] * sin}, -1)
                     .flatten(-2)
                     .to(t.scalar_type());
  if (features == t.size(-1)) return rotated;
  return at::cat({rotated, t.narrow(-1, features, t.size(-1) - features)}, -1);
}

namespace {

struct RotaryCall {
  const at::Tensor& t;
  const RotaryTable& table;
  bool inverse_scale;
};

at::Tensor fused_rotary(const RotaryCall& call) {
  const auto rows = dense(last_rows(call.table, call.t.size(2)));
  const auto input = with_dense_features(call.t);
  if (records_gradient({input})) return RotaryFunction::apply(input, rows, call.inverse_scale);
  return run_forward(input, rows, call.inverse_scale);
}

Reasons rotary_cuda_reasons(const RotaryCall& call) {
  auto reasons = cuda_kernel_reasons(call.t, "t");
  if (!call.t.is_cuda()) return reasons;
  constexpr int64_t kMaxEntries = 65535;  // of a grid
  reasons.add_if(call.t.size(0) > kMaxEntries || call.t.size(1) > kMaxEntries,
                 "too many batch entries or heads");
  for (const auto& part : {call.table.cos, call.table.sin, call.table.scale}) {
    if (!part.defined()) continue;
    reasons.add_if(part.device() != call.t.device() || !is_plain_on_cuda(part) ||
                       part.scalar_type() != at::kFloat,
                   "the table is not plain float32 beside t");
    reasons.add_if(part.requires_grad(), "the table wants a gradient");
  }
  return reasons;
}

const Engines<RotaryCall, at::Tensor>& rotary_engines() {
  using Call = RotaryCall;
  static const Engines<Call, at::Tensor> all(
      {{"cpu", [](const Call& call) { return Reasons(rotary_unsupported(call.t, call.table)); },
        fused_rotary},
       {"cuda", rotary_cuda_reasons, fused_rotary},
       {"reference", [](const Call&) { return Reasons(); },
        [](const Call& call) {
          return apply_rotary_reference(call.t, call.table, call.inverse_scale);
        }}});
  return all;
}

}  // namespace

at::Tensor apply_rotary(const at::Tensor& t, const RotaryTable& table, bool inverse_scale) {
  check(t, table);
  return rotary_engines().run({t, table, inverse_scale});
}

at::Tensor apply_rotary_on(const std::string& engine, const at::Tensor& t, const RotaryTable& table,
                           bool inverse_scale) {
  check(t, table);
  return rotary_engines().run_on(engine, {t, table, inverse_scale});
}

std::vector<EngineReport> explain_apply_rotary(const at::Tensor& t, const RotaryTable& table) {
  check(t, table);
  return rotary_engines().explain({t, table, false});
}

}  // namespace x_transformers
