#include "x_transformers/ops/bucket_table.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Forward from a weight [buckets, heads] to a table [heads, length], backward from a table to a
/// weight.
at::Tensor launch(const at::Tensor& from, int64_t heads, const BucketRanges& ranges, double scale,
                  kernels::Pass pass) {
  const auto buckets = static_cast<int64_t>(ranges.begins.size());
  auto to = pass == kernels::Pass::forward ? at::empty({heads, ranges.length}, from.options())
                                           : at::empty({buckets, heads}, from.options());
  kernels::BucketTable params;
  params.from = from.const_data_ptr();
  params.to = to.mutable_data_ptr();
  params.element = element_of(from);
  params.pass = pass;
  params.buckets = buckets;
  params.heads = heads;
  params.length = ranges.length;
  params.scale = static_cast<float>(scale);
  for (size_t b = 0; b < ranges.begins.size(); ++b) {
    params.begins[b] = static_cast<int>(ranges.begins[b]);
    params.ends[b] = static_cast<int>(ranges.ends[b]);
  }
  our_cuda_kernels().launchers->bucket_table(params, from.device().index());
  return to;
}

class BucketTableFunction : public torch::autograd::Function<BucketTableFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& weight,
                            const BucketRanges& ranges, double scale) {
    ctx->saved_data["begins"] = ranges.begins;
    ctx->saved_data["ends"] = ranges.ends;
    ctx->saved_data["length"] = ranges.length;
    ctx->saved_data["scale"] = scale;
    return launch(weight, weight.size(1), ranges, scale, kernels::Pass::forward);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const BucketRanges ranges{ctx->saved_data["begins"].toIntVector(),
                              ctx->saved_data["ends"].toIntVector(),
                              ctx->saved_data["length"].toInt()};
    const auto scale = ctx->saved_data["scale"].toDouble();
    const auto& grad = output_grads[0];
    if (!at::GradMode::is_enabled())
      return {
          launch(grad.contiguous(), grad.size(0), ranges, scale, kernels::Pass::backward), {}, {}};
    variable_list sums;
    for (size_t b = 0; b < ranges.begins.size(); ++b)
      sums.push_back(grad.narrow(1, ranges.begins[b], ranges.ends[b] - ranges.begins[b]).sum(1));
    return {at::stack(sums) * scale, {}, {}};
  }
};

}  // namespace

BucketRanges make_bucket_ranges(const at::Tensor& buckets, int64_t count) {
  BucketRanges ranges;
  ranges.begins.resize(static_cast<size_t>(count));
  ranges.ends.resize(static_cast<size_t>(count));
  ranges.length = buckets.numel();
  const auto dense = buckets.contiguous();
  const auto* numbers = dense.const_data_ptr<int64_t>();
  for (int64_t d = 0; d < ranges.length; ++d) {
    const auto b = static_cast<size_t>(numbers[d]);
    if (ranges.ends[b] == 0) ranges.begins[b] = d;
    ranges.ends[b] = d + 1;
  }
  return ranges;
}

bool has_bucket_table(const at::Tensor& weight) {
  return weight.size(0) <= kernels::kMaxTableBuckets &&
         cuda_kernel_reasons(weight, "weight").empty();
}

at::Tensor bucket_table(const at::Tensor& weight, const BucketRanges& ranges, double scale) {
  const auto dense = weight.contiguous();
  return records_gradient({dense})
             ? BucketTableFunction::apply(dense, ranges, scale)
             : launch(dense, dense.size(1), ranges, scale, kernels::Pass::forward);
}

}  // namespace x_transformers
