#include "x_transformers/ops/squared_relu.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/kernels/cpu/squared_relu.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {
namespace {

// Queries at a time. Fewer skip more of what a causal mask hides, more make better products.
constexpr int64_t kCausalRows = 128, kRows = 256;

int64_t block_rows(const SquaredRelu& call) { return call.causal ? kCausalRows : kRows; }

/// Some queries, and the keys that the last of them sees.
struct QueryBlock {
  int64_t begin, rows, keys;
};

QueryBlock block_from(const SquaredRelu& call, int64_t begin) {
  const auto queries = call.q.size(0), keys = call.k.size(0);
  const auto rows = std::min(block_rows(call), queries - begin);
  return {begin, rows, call.causal ? keys - queries + begin + rows : keys};
}

/// Entry 0 of the row of a query, and the way from row to row.
template <class T>
struct BiasRows {
  T* first = nullptr;
  int64_t stride = 0;
};

template <class T>
BiasRows<T> bias_rows(const SquaredRelu& call, const at::Tensor& bias, T* data, int64_t query) {
  if (bias.dim() == 2) return {data + query * bias.stride(0), bias.stride(0)};
  const auto position = call.k.size(0) - call.q.size(0) + query;
  return {data + call.origin - position, -1};
}

void weigh(const SquaredRelu& call, const QueryBlock& block, const at::Tensor& scores,
           const at::Tensor& weights) {
  kernels::SquaredReluForward params;
  params.rows = block.rows;
  params.columns = block.keys;
  params.is_causal = call.causal;
  params.visible = call.causal ? call.k.size(0) - call.q.size(0) + block.begin + 1 : block.keys;
  params.scale = static_cast<float>(call.scale);
  params.scores = scores.mutable_data_ptr<float>();
  params.scores_stride = scores.stride(0);
  params.weights = weights.mutable_data_ptr<float>();
  params.weights_stride = weights.stride(0);
  if (call.bias.defined()) {
    const auto rows = bias_rows(call, call.bias, call.bias.const_data_ptr<float>(), block.begin);
    params.bias = {rows.first, rows.stride, static_cast<float>(call.bias_scale)};
  }
  kernels::squared_relu_forward(params);
}

/// `grads` from gradients of the weights to those of the products, and the weights.
void weigh_backward(const SquaredRelu& call, const QueryBlock& block, const at::Tensor& relus,
                    const at::Tensor& weights, const at::Tensor& grads,
                    const at::Tensor& bias_grad) {
  kernels::SquaredReluBackward params;
  params.rows = block.rows;
  params.columns = block.keys;
  params.scale = static_cast<float>(call.scale);
  params.relus = relus.const_data_ptr<float>();
  params.relus_stride = relus.stride(0);
  params.weights = weights.mutable_data_ptr<float>();
  params.grads = grads.mutable_data_ptr<float>();
  params.stride = weights.stride(0);
  params.bias_scale = static_cast<float>(call.bias_scale);
  if (bias_grad.defined()) {
    const auto rows = bias_rows(call, bias_grad, bias_grad.mutable_data_ptr<float>(), block.begin);
    params.bias_grad = rows.first;
    params.bias_stride = rows.stride;
  }
  kernels::squared_relu_backward(params);
}

/// A block's part [rows, keys] of dense memory for any block.
at::Tensor part_of(const at::Tensor& memory, const QueryBlock& block) {
  return memory.narrow(0, 0, block.rows * block.keys).view({block.rows, block.keys});
}

at::Tensor block_memory(const SquaredRelu& call) {
  const auto rows = std::min(block_rows(call), call.q.size(0));
  return at::empty({rows * call.k.size(0)}, call.q.options());
}

}  // namespace

void squared_relu_forward(const SquaredRelu& call, const at::Tensor& relus, const at::Tensor& out) {
  const auto memory = block_memory(call);
  for (int64_t begin = 0; begin < call.q.size(0); begin += block_rows(call)) {
    const auto block = block_from(call, begin);
    const auto weights = part_of(memory, block);
    const auto scores =
        relus.defined() ? relus.narrow(0, begin, block.rows).narrow(1, 0, block.keys) : weights;
    write_product(scores, call.q.narrow(0, begin, block.rows), call.k.narrow(0, 0, block.keys).t());
    weigh(call, block, scores, weights);
    write_product(out.narrow(0, begin, block.rows), weights, call.v.narrow(0, 0, block.keys));
  }
}

void squared_relu_backward(const SquaredRelu& call, const at::Tensor& relus,
                           const at::Tensor& out_grad, const SquaredReluGradients& gradients) {
  const auto weight_memory = block_memory(call), grad_memory = at::empty_like(weight_memory);
  const auto step = block_rows(call);
  const auto blocks = (call.q.size(0) + step - 1) / step;
  // The last queries see all keys, so that their block is the first to write to each gradient.
  for (int64_t i = blocks - 1; i >= 0; --i) {
    const auto block = block_from(call, i * step);
    const auto product = i == blocks - 1 ? write_product : accumulate_product;
    const auto weights = part_of(weight_memory, block), grads = part_of(grad_memory, block);
    const auto keys = [&](const at::Tensor& t) { return t.narrow(0, 0, block.keys); };
    const auto queries = [&](const at::Tensor& t) { return t.narrow(0, block.begin, block.rows); };
    write_product(grads, queries(out_grad), keys(call.v).t());
    weigh_backward(call, block, queries(relus), weights, grads, gradients.bias);
    product(keys(gradients.v), weights.t(), queries(out_grad));
    write_product(queries(gradients.q), grads, keys(call.k));
    product(keys(gradients.k), grads.t(), queries(call.q));
  }
}

}  // namespace x_transformers
