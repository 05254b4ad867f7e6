#include "x_transformers/ops/side_by_side.h"

#include <ATen/ATen.h>

#include "x_transformers/ops/heads_of_tokens.h"

namespace x_transformers {
namespace {

bool share_memory(const std::array<at::Tensor, 3>& parts) {
  for (const auto& part : parts) {
    if (!part.defined() || part.scalar_type() != parts[0].scalar_type() ||
        !part.is_alias_of(parts[0]))
      return false;
  }
  return true;
}

/// t [..., n] as [rows, n], if its rows lie as far apart as those of a matrix; else undefined.
at::Tensor as_rows(const at::Tensor& t) {
  if (t.dim() < 2 || t.stride(-1) != 1) return {};
  int64_t rows = t.size(-2);
  for (auto dim = t.dim() - 3; dim >= 0; --dim) {
    if (t.size(dim) != 1 && t.stride(dim) != t.stride(-2) * rows) return {};
    rows *= t.size(dim);
  }
  return t.as_strided({rows, t.size(-1)}, {t.stride(-2), 1});
}

}  // namespace

at::Tensor rows_of_one_matrix(const std::array<at::Tensor, 3>& parts) {
  if (!share_memory(parts)) return {};
  int64_t rows = 0;
  for (const auto& part : parts) {
    const bool follows = part.dim() == 2 && part.is_contiguous() &&
                         part.size(1) == parts[0].size(1) &&
                         part.storage_offset() == parts[0].storage_offset() + rows * part.size(1);
    if (!follows) return {};
    rows += part.size(0);
  }
  const auto columns = parts[0].size(1);
  return parts[0].detach().as_strided({rows, columns}, {columns, 1});
}

at::Tensor columns_of_one_matrix(const std::array<at::Tensor, 3>& parts) {
  if (!share_memory(parts)) return {};
  const auto first = as_rows(parts[0].detach());
  int64_t columns = 0;
  for (const auto& part : parts) {
    const auto rows = as_rows(part.detach());
    const bool is_beside = first.defined() && rows.defined() && rows.size(0) == first.size(0) &&
                           rows.stride(0) == first.stride(0) &&
                           rows.storage_offset() == first.storage_offset() + columns;
    if (!is_beside) return {};
    columns += rows.size(1);
  }
  if (columns > first.stride(0)) return {};
  return first.as_strided({first.size(0), columns}, {first.stride(0), 1});
}

std::array<at::Tensor, 3> empty_columns(const at::Tensor& x,
                                        const std::array<at::Tensor, 3>& weights) {
  auto sizes = x.sizes().vec();
  sizes.back() = weights[0].size(0) + weights[1].size(0) + weights[2].size(0);
  const auto all = at::empty(sizes, x.options());
  std::array<at::Tensor, 3> parts;
  int64_t begin = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i] = all.narrow(-1, begin, weights[i].size(0));
    begin += weights[i].size(0);
  }
  return parts;
}

bool are_side_by_side(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (!share_memory({q, k, v}) || q.dim() != 4) return false;
  const auto heads = q.size(1), n = q.size(2), d = q.size(3), width = 3 * heads * d;
  int64_t begin = q.storage_offset();
  for (const auto* t : {&q, &k, &v}) {
    const bool fits = t->sizes() == q.sizes() && t->stride(0) == n * width && t->stride(1) == d &&
                      t->stride(2) == width && t->stride(3) == 1 && t->storage_offset() == begin;
    if (!fits) return false;
    begin += heads * d;
  }
  return true;
}

std::array<at::Tensor, 3> empty_gradients_of_heads(const at::Tensor& q, const at::Tensor& k,
                                                   const at::Tensor& v, bool side_by_side) {
  if (!side_by_side) {
    return {empty_positions_first_like(q), empty_positions_first_like(k),
            empty_positions_first_like(v)};
  }
  const auto all = at::empty({q.size(0), q.size(2), 3, q.size(1), q.size(3)}, q.options());
  std::array<at::Tensor, 3> parts;
  for (size_t i = 0; i < parts.size(); ++i)
    parts[i] = all.select(2, static_cast<int64_t>(i)).transpose(1, 2);
  return parts;
}

}  // namespace x_transformers
