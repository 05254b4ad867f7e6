// A table of distances of which many share one number, as in T5's bias (arXiv:1910.10683).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace x_transformers {

/// Which entries of a table of distances are of each bucket: those from begins[b] to ends[b] - 1.
struct BucketRanges {
  std::vector<int64_t> begins, ends;
  int64_t length = 0;
};

/// From `buckets` [length] on the CPU, integers from 0 to count - 1 of which equal ones stand
/// together.
BucketRanges make_bucket_ranges(const at::Tensor& buckets, int64_t count);

/// Whether bucket_table has a kernel for this weight [buckets, heads].
bool has_bucket_table(const at::Tensor& weight);

/// [heads, length]: scale * weight[b] at the entries of each bucket b, by one kernel of ours, and
/// by one for the gradient, which ATen's embedding takes 0.06 ms for. On CUDA alone.
at::Tensor bucket_table(const at::Tensor& weight, const BucketRanges& ranges, double scale);

}  // namespace x_transformers
