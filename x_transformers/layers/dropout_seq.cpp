#include "x_transformers/layers/dropout_seq.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "x_transformers/ops/rows.h"

namespace x_transformers {

std::pair<at::Tensor, at::Tensor> dropout_seq(const at::Tensor& given, const at::Tensor& given_mask,
                                              double dropout) {
  auto seq = given, mask = given_mask;
  if (mask.defined()) {
    seq = with_rows(given, given_mask.size(0));
    mask = with_rows(given_mask, given.size(0));
  }
  const auto batch = seq.size(0), n = seq.size(1);
  const double keep_prob = 1.0 - dropout;
  const auto kept = std::max<int64_t>(1, static_cast<int64_t>(keep_prob * static_cast<double>(n)));
  auto ranks = at::randn({batch, n}, seq.options().dtype(at::kFloat));
  if (mask.defined()) ranks = ranks.masked_fill(~mask, -std::numeric_limits<float>::max());
  const auto indices = std::get<1>(ranks.topk(kept, 1));
  const auto shorter = seq.gather(1, indices.unsqueeze(-1).expand({-1, -1, seq.size(-1)}));
  if (!mask.defined()) return {shorter, mask};
  const auto counts = (mask.sum(-1) * keep_prob).ceil().to(at::kLong);
  const auto places = at::arange(kept, counts.options());
  return {shorter, mask.gather(1, indices) & (places < counts.unsqueeze(-1))};
}

}  // namespace x_transformers
