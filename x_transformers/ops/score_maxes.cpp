#include "x_transformers/ops/score_maxes.h"

#include <ATen/ATen.h>

#include "x_transformers/ops/heads.h"

namespace x_transformers {
namespace {

/// The scores [b, h, i, j] as the normaliser gets them.
at::Tensor scores_of(const at::Tensor& q, const at::Tensor& k, const ScoreProgram& program) {
  ScoreMatrix matrix;
  matrix.q = q;
  matrix.k = repeat_heads(k, q.size(1));
  for (const auto& stage : program.stages()) {
    if (stage->place() > ScorePlace::keep_scores) break;
    matrix.run_until(stage->place());
    stage->apply(matrix);
  }
  matrix.run_until(ScorePlace::keep_scores);
  return matrix.scores;
}

}  // namespace

at::Tensor score_maxes(const at::Tensor& q, const at::Tensor& k, const ScoreProgram& program) {
  const at::NoGradGuard no_grad;
  const auto batch = q.size(0);
  at::Tensor maxes;
  for (int64_t entry = 0; entry < batch; ++entry) {
    const auto own = program.with_tensors([&](const at::Tensor& t) {
      // What is not [b, h, i, j] is the same for all entries.
      return t.dim() == 4 && t.size(0) == batch ? t.narrow(0, entry, 1) : t;
    });
    const auto keys = k.size(0) == batch ? k.narrow(0, entry, 1) : k;
    const auto scores = scores_of(q.narrow(0, entry, 1), keys, own);
    const auto largest = scores.amax({0, 2, 3});
    maxes = maxes.defined() ? at::maximum(maxes, largest) : largest;
  }
  return maxes;
}

}  // namespace x_transformers
