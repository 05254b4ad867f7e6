// Attention as a program over scores, and the engines that run it.
//
// A program says what happens to the scores q·k between the product and the weighted sum of values.
// An engine runs whole programs, and names the stages that it knows: a stage that it does not know
// is a reason against it. The first engine that can is used, and the reference can run all.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/score_program.h"

namespace x_transformers {

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

/// As attend, by the engine of this name. Throws InputError with the reasons where it cannot run.
AttendResult attend_on(const std::string& engine, const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& v, const ScoreProgram& program, bool keep_maps = false);

/// All engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_attend(const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v, const ScoreProgram& program,
                                         bool keep_maps = false);

/// Whether the engine of this name knows stages of this type, whatever else may keep it away.
bool knows_stage(const std::string& engine, StageType stage);

/// The engine made of plain ATen calls, which runs every program on every device, in every dtype
/// and order of gradient.
AttendResult attend_reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const ScoreProgram& program, bool keep_maps = false);

}  // namespace x_transformers
