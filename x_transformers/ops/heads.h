// Heads as the second dimension of a tensor.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace x_transformers {

/// t [b, some heads, n, d] repeated to `heads` heads, as grouped heads ask for (query head h uses
/// key and value head h % (heads given)); t itself where it has them.
at::Tensor repeat_heads(const at::Tensor& t, int64_t heads);

/// Whether copy_heads takes t.
bool may_copy_heads(const at::Tensor& t);
/// Copies `from` [b, h, n, d] to the room `to` of the same size. Not for autograd.
void copy_heads(const at::Tensor& from, const at::Tensor& to);

/// `front` [1, h, m, d], the same for all entries, or [b, h, m, d], and t [b, h, n, d] after it.
at::Tensor put_in_front(const at::Tensor& front, const at::Tensor& t);

/// t [b, some heads, n, d] with its last `count` heads given through `rotate`; all of them where
/// `count` is not below `heads`, the heads of the queries.
at::Tensor rotate_last_heads(const at::Tensor& t, int64_t count, int64_t heads,
                             const std::function<at::Tensor(const at::Tensor&)>& rotate);

/// [b, n, heads * d] -> [b, heads, n, d]
at::Tensor split_heads(const at::Tensor& t, int64_t heads);

/// [b, heads, n, d] -> [b, n, heads * d]
at::Tensor merge_heads(const at::Tensor& t);

}  // namespace x_transformers
