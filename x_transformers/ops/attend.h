// Attention as a program over scores, and the engines that run it.
//
// A program says what happens to the scores q·k between the product and the weighted sum of values.
// An engine runs whole programs; each engine says why it cannot run one. The first engine that can
// is used, and the reference can run all.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/cache.h"

namespace x_transformers {

/// How scores become weights.
enum class Normaliser { softmax, sigmoid, hard, sparse_topk, gumbel_softmax, custom };

/// What is done to the scores [b, h, i, j], in the order of the members. Undefined tensors and
/// empty optionals are off.
struct ScoreProgram {
  bool allow_fused = true;   ///< false: the reference engine runs
  bool allow_flash = true;   ///< false: no flash attention of LibTorch
  bool l2_distance = false;  ///< minus the squared distance of q and k in place of their product
  double scale = 1.0;
  at::Tensor prev_attn;                     ///< added: the scores of an earlier layer
  at::Tensor pre_scale_post_talking_heads;  ///< [h, h]: heads mixed here scale the weights later
  at::Tensor pre_talking_heads;             ///< [h, h]: heads mixed and added
  at::Tensor bias;                          ///< broadcastable to [b, h, i, j], added
  std::optional<double> softclamp;          ///< value * tanh(scores / value)
  bool cog_signed =
      false;        ///< weights of |scores|, given the sign of the scores (arXiv:2411.07176)
  at::Tensor mask;  ///< bool, broadcastable to [b, h, i, j]: true means attend
  /// If defined, `mask` says no more than this: k and v are fixed buffers with this many keys, and
  /// each row has one query.
  FilledKeys filled;
  bool causal = false;  ///< queries stand at the last key positions
  std::function<at::Tensor(const at::Tensor& q, const at::Tensor& scores)>
      cope;                ///< what is added (arXiv:2405.18719)
  bool selective = false;  ///< arXiv:2410.02703
  at::Tensor head_sink;    ///< [h]: score of a key that has no value
  Normaliser normaliser = Normaliser::softmax;
  int64_t sparse_topk = 0;
  bool sparse_topk_straight_through = false;
  double gumbel_temperature = 1.0;
  bool gumbel_hard = true;
  std::function<at::Tensor(const at::Tensor& scores)> custom;
  double dropout = 0.0;           ///< of the weights; 0 outside training
  at::Tensor post_talking_heads;  ///< [h, h]: weights mixed over heads
};

/// The scores on their way, kept only when asked for.
struct AttentionMaps {
  at::Tensor qk_similarities;  ///< [b, h, i, j] after scale and prev_attn
  at::Tensor
      pre_softmax_attn;  ///< [b, h, i, j] as the normaliser gets them (one key more with head_sink)
  at::Tensor post_softmax_attn;  ///< the weights, before dropout and post talking heads
};

struct AttendResult {
  at::Tensor out;  ///< [b, h, i, dv]
  AttentionMaps maps;
};

/// Runs a program. Shapes: q [b, h, i, d], k [b, kv_heads, j, d], v [b, kv_heads, j, dv] or [b, h,
/// j, dv]; query head h uses key/value head h % kv_heads. A query that may attend to nothing gets
/// output 0 and gradient 0, on every engine. `keep_maps` needs the reference engine.
AttendResult attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const ScoreProgram& program, bool keep_maps = false);

/// An engine's name and why it cannot run a program; empty reasons: it can.
struct EngineReport {
  std::string engine;
  std::vector<std::string> reasons;
};

/// All engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_attend(const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v, const ScoreProgram& program,
                                         bool keep_maps = false);

/// The engine made of plain ATen calls.
AttendResult attend_reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const ScoreProgram& program, bool keep_maps = false);

}  // namespace x_transformers
