// The engine that holds the whole score matrix [b h i j] and runs every stage on it.
#include <ATen/ATen.h>

#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/heads.h"

namespace x_transformers {
namespace {

/// Copies to `map` what the scores are at `place`.
void keep(ScoreMatrix& matrix, ScorePlace place, at::Tensor& map) {
  matrix.later(place, [&map](ScoreMatrix& m) { map = m.scores; });
}

}  // namespace

AttendResult attend_reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const ScoreProgram& program, bool keep_maps) {
  AttendResult result;
  ScoreMatrix matrix;
  matrix.q = q;
  matrix.k = repeat_heads(k, q.size(1));
  if (keep_maps) {
    keep(matrix, ScorePlace::keep_similarities, result.maps.qk_similarities);
    keep(matrix, ScorePlace::keep_scores, result.maps.pre_softmax_attn);
    keep(matrix, ScorePlace::keep_weights, result.maps.post_softmax_attn);
  }
  for (const auto& stage : program.stages()) {
    matrix.run_until(stage->place());
    stage->apply(matrix);
  }
  matrix.run_until(ScorePlace::end);

  result.out = at::matmul(matrix.scores, repeat_heads(v, q.size(1)));
  if (matrix.may_see_nothing) result.out = result.out.masked_fill(~matrix.visible.any(-1, true), 0);
  return result;
}

}  // namespace x_transformers
