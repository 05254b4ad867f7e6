#include "x_transformers/ops/heads.h"

#include <ATen/ATen.h>

namespace x_transformers {

at::Tensor repeat_heads(const at::Tensor& t, int64_t heads) {
  return t.size(1) == heads ? t : t.repeat({1, heads / t.size(1), 1, 1});
}

}  // namespace x_transformers
