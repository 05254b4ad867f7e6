// Rotary position embedding (RoFormer, arXiv:2104.09864), with the length-extrapolating scale of
// xpos (arXiv:2212.10554). Feature pairs are interleaved: (0, 1), (2, 3), ... CPU float32 and
// bfloat16, and CUDA, run fused kernels, all else ATen calls.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// What a rotation needs for each position, float32 [b or 1, n, rot_dim / 2].
struct RotaryTable {
  at::Tensor cos;
  at::Tensor sin;
  at::Tensor scale;  ///< undefined: 1
};

/// Angles positions * inv_freq / interpolation_factor (arXiv:2306.15595) for positions [n] or [b,
/// n], integers or floats, and inv_freq [rot_dim / 2]. With xpos_scale [rot_dim / 2], scale =
/// xpos_scale ^ ((position - center) / scale_base); `center` defaults to half (rounded down) of the
/// maximum position plus one. No wait for the device.
RotaryTable make_rotary_table(const at::Tensor& positions, const at::Tensor& inv_freq,
                              double interpolation_factor = 1.0, const at::Tensor& xpos_scale = {},
                              double scale_base = 512.0,
                              std::optional<double> center = std::nullopt);

/// t [b, h, n, d] of any strides, the first rot_dim features of each head rotated by the angles of
/// `table` (its last n positions) and multiplied by its scale, or divided by it with
/// `inverse_scale` (keys). Dense [b, h, n, d]; its gradient comes in the memory order of t. Throws
/// InputError for shapes that do not fit.
at::Tensor apply_rotary(const at::Tensor& t, const RotaryTable& table, bool inverse_scale = false);

/// As apply_rotary, by the engine of this name. Throws InputError with the reasons where it cannot
/// run.
at::Tensor apply_rotary_on(const std::string& engine, const at::Tensor& t, const RotaryTable& table,
                           bool inverse_scale = false);
/// The engines of apply_rotary in order of preference, each with its reasons against.
std::vector<EngineReport> explain_apply_rotary(const at::Tensor& t, const RotaryTable& table);

/// Why the fused CPU kernel cannot run; empty: it can.
std::string rotary_unsupported(const at::Tensor& t, const RotaryTable& table);

/// apply_rotary made of ATen calls, for every device, dtype and order of gradient.
at::Tensor apply_rotary_reference(const at::Tensor& t, const RotaryTable& table,
                                  bool inverse_scale = false);

}  // namespace x_transformers
