#include "x_transformers/ops/heads.h"

#include <ATen/ATen.h>

namespace x_transformers {

at::Tensor repeat_heads(const at::Tensor& t, int64_t heads) {
  return t.size(1) == heads ? t : t.repeat({1, heads / t.size(1), 1, 1});
}

at::Tensor rotate_last_heads(const at::Tensor& t, int64_t count, int64_t heads,
                             const std::function<at::Tensor(const at::Tensor&)>& rotate) {
  if (count >= heads) return rotate(t);
  const auto rest = t.size(1) - count;
  return at::cat({t.narrow(1, 0, rest), rotate(t.narrow(1, rest, count))}, 1);
}

at::Tensor split_heads(const at::Tensor& t, int64_t heads) {
  return t.unflatten(-1, {heads, t.size(-1) / heads}).transpose(1, 2);
}

at::Tensor merge_heads(const at::Tensor& t) { return t.transpose(1, 2).flatten(2); }

}  // namespace x_transformers
