// Rotary and polar positions, which rotate queries and keys.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <optional>

#include "x_transformers/nn/positions/position_options.h"
#include "x_transformers/ops/rotary.h"

namespace x_transformers {

/// What rotary positions keep beside cached keys.
struct RotaryState {
  /// The position at which xpos scales keys and queries by 1.
  double xpos_center = 0;

  /// With Python's center: the middle of the positions `pos`, or of `counted` tokens, those of the
  /// row with the least padding (`start` [b], as seq_start_pos), of which the first `before` stand
  /// in front of position 0.
  static RotaryState amid(const at::Tensor& pos);
  static RotaryState amid(int64_t counted, int64_t before, const at::Tensor& start);
};

/// Angles for each feature and not for each pair, such as those from outside: [b or 1, n, d], and
/// xpos' scale of the same shape or undefined. The last rows count.
struct RotaryAngles {
  at::Tensor freqs, scale;

  template <class Self, class Visit>
  static void tensors(Self& self, Visit& visit) {
    for (auto* t : {&self.freqs, &self.scale})
      if (t->defined()) visit(*t);
  }
  bool defined() const { return freqs.defined(); }
  /// The `count` rows that stand before the last `after`.
  RotaryAngles rows(int64_t count, int64_t after) const;
};

/// Angles for pairs of features by position (arXiv:2104.09864), with xpos' decay
/// (arXiv:2212.10554), interpolation (arXiv:2306.15595) and NTK-aware rescaling.
class RotaryEmbedding : public torch::nn::Module {
 public:
  explicit RotaryEmbedding(const RotaryEmbeddingOptions& options);
  /// The table for positions [n] or [b, n]. xpos scales by the distance from a center: Python's,
  /// the middle of the positions up to the maximum, or a fixed `center`, so that keys in a cache
  /// keep the scale that they were given.
  RotaryTable forward(const at::Tensor& positions,
                      std::optional<double> center = std::nullopt) const;
  /// The angles of positions [n] or [b, n] for each feature, as Python's module gives them; xpos
  /// scales by the distance from Python's center.
  RotaryAngles angles(const at::Tensor& positions) const;
  /// With xpos and a fixed `center`, what keys without a position are multiplied by, [dim / 2], so
  /// that they stand where Python's center is; else undefined.
  at::Tensor scale_without_position(const at::Tensor& positions, double center) const;

 private:
  double scale_base_, interpolation_factor_;
  at::Tensor inv_freq_, scale_;
};

/// Angles of polar positions from outside.
struct PolarAngles {
  at::Tensor angles;    ///< [b, 1 or h, n, d]
  at::Tensor key_bias;  ///< [h, 1, d], which keys add to theirs

  template <class Self, class Visit>
  static void tensors(Self& self, Visit& visit) {
    for (auto* t : {&self.angles, &self.key_bias})
      if (t->defined()) visit(*t);
  }
  bool defined() const { return angles.defined(); }
  at::Tensor of_keys() const { return angles + key_bias; }
};

/// Throws InputError, with `name`, unless angles [.., positions, features] from outside have a
/// position for each of t [b, h, n, d], no more features, and one sequence or b.
void require_angles(const at::Tensor& angles, const at::Tensor& t, const char* name);

/// t [b, h, n, d] rotated by the last n rows of `angles`; the scale divides with `inverse_scale`
/// (keys).
at::Tensor apply_rotary_angles(const at::Tensor& t, const RotaryAngles& angles, bool inverse_scale);

/// Positions as angles of the polar form of softplus(q) and softplus(k) (arXiv:2509.10534).
class PolarEmbedding : public torch::nn::Module {
 public:
  /// The frequencies are base^(-i / dim); the bias of the keys starts at random or at zero.
  explicit PolarEmbedding(const PolarEmbeddingOptions& options);
  /// The angles [b or 1, n, dim] of positions [n] or [b, n].
  at::Tensor forward(const at::Tensor& positions) const;
  /// What keys add to their angles, [heads, 1, dim] in [-2 pi, 0].
  at::Tensor key_bias() const;

 private:
  at::Tensor inv_freq_, learned_bias_;
};

/// softplus(t) at the given angles, as cosine and sine parts: [b, h, n, d] -> [b, h, n, 2 d].
at::Tensor apply_polar_pos_emb(const at::Tensor& t, const at::Tensor& angles);

}  // namespace x_transformers
