#include "x_transformers/ops/full_precision.h"

#include <ATen/ATen.h>

namespace x_transformers {

at::Tensor in_full_precision(const at::Tensor& values) {
  const bool is_reduced = at::isReducedFloatingType(values.scalar_type());
  return is_reduced ? values.to(at::kFloat) : values;
}

}  // namespace x_transformers
