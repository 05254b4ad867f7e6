#include "x_transformers/ops/hyper_connection.h"

#include <ATen/ATen.h>

#include <array>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct WidthCall {
  const at::Tensor& streams;
  const HyperConnectionWeights& weights;
  int64_t views;
};

struct DepthCall {
  const at::Tensor &out, &sum, &beta;
};

/// In the order of HyperConnectionWeights.
constexpr size_t kWeights = 7;
std::array<at::Tensor, kWeights> list_of(const HyperConnectionWeights& w) {
  return {w.gain,    w.alpha_fn,   w.alpha_scale, w.static_alpha,
          w.beta_fn, w.beta_scale, w.static_beta};
}
HyperConnectionWeights weights_of(at::TensorList list) {
  return {list[0], list[1], list[2], list[3], list[4], list[5], list[6]};
}

HyperWidth width_reference(const at::Tensor& given, const HyperConnectionWeights& w,
                           int64_t views) {
  const auto streams = given.unflatten(0, {-1, w.static_beta.size(0)}).permute({0, 2, 1, 3});
  const auto normed = at::layer_norm(streams, {streams.size(-1)}, w.gain);
  const auto alpha = at::matmul(normed, w.alpha_fn.narrow(1, 0, views)) * w.alpha_scale +
                     w.static_alpha.narrow(1, 0, views);
  const auto dynamic_beta = at::matmul(normed, w.beta_fn).sigmoid() * 2 * w.beta_scale;
  const auto mixed = at::matmul(alpha.sigmoid().transpose(-1, -2), streams);  // (b n v d)
  return {mixed.permute({2, 0, 1, 3}), streams.sum(2),
          (dynamic_beta + w.static_beta).sigmoid() * 2};
}

at::Tensor depth_reference(const at::Tensor& out, const at::Tensor& sum, const at::Tensor& beta) {
  const auto joined =
      out.unsqueeze(2) * beta.to(out.scalar_type()).unsqueeze(-1) + sum.unsqueeze(2);
  return joined.permute({0, 2, 1, 3}).flatten(0, 1);
}

const void* memory_or_null(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr() : nullptr;
}

/// What the parameters of both passes share; everything is dense.
template <class Params>
Params width_params(const at::Tensor& streams, const HyperConnectionWeights& w, int64_t views) {
  Params params;
  params.streams = streams.const_data_ptr();
  params.weights = {w.gain.const_data_ptr(),        w.alpha_fn.const_data_ptr(),
                    w.alpha_scale.const_data_ptr(), w.static_alpha.const_data_ptr(),
                    w.beta_fn.const_data_ptr(),     w.beta_scale.const_data_ptr(),
                    w.static_beta.const_data_ptr()};
  params.element = element_of(streams);
  params.streams_count = w.static_beta.size(0);
  params.batch = streams.size(0) / params.streams_count;
  params.length = streams.size(1);
  params.dim = streams.size(2);
  params.views = views;
  return params;
}

HyperWidth run_width(const at::Tensor& streams, const HyperConnectionWeights& w, int64_t views,
                     at::Tensor* statistics) {
  auto params = width_params<kernels::HyperWidth>(streams, w, views);
  const auto b = params.batch, n = params.length, dim = params.dim, count = params.streams_count;
  const auto floats = streams.options().dtype(at::kFloat);
  const HyperWidth width{at::empty({views, b, n, dim}, streams.options()),
                         at::empty({b, n, dim}, streams.options()),
                         at::empty({b, n, count}, floats)};
  params.input = width.input.mutable_data_ptr();
  params.sum = width.sum.mutable_data_ptr();
  params.beta = width.beta.mutable_data_ptr<float>();
  if (statistics != nullptr) {
    *statistics = at::empty({b, n, count, views + 3}, floats);
    params.statistics = statistics->mutable_data_ptr<float>();
  }
  our_cuda_kernels().launchers->hyper_width_forward(params, streams.device().index());
  return width;
}

class WidthFunction : public torch::autograd::Function<WidthFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& streams,
                               at::TensorList weights, int64_t views) {
    at::Tensor statistics;
    const auto width = run_width(streams, weights_of(weights), views, &statistics);
    variable_list saved = {streams, statistics};
    saved.insert(saved.end(), weights.begin(), weights.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["views"] = views;
    ctx->set_materialize_grads(false);
    return {width.input, width.sum, width.beta};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto views = ctx->saved_data["views"].toInt();
    const auto weights = at::TensorList(saved).slice(2);
    if (at::GradMode::is_enabled()) return with_graph(saved[0], weights, views, output_grads);
    variable_list gradients(kWeights + 2);  // of the streams, the weights, and views
    gradients[0] = at::empty_like(saved[0]);
    for (size_t i = 0; i < kWeights; ++i) gradients[i + 1] = at::empty_like(weights[i]);
    auto params = width_params<kernels::HyperWidthBackward>(saved[0], weights_of(weights), views);
    variable_list dense;
    for (const auto& grad : output_grads)
      dense.push_back(grad.defined() ? grad.contiguous() : grad);
    params.statistics = saved[1].const_data_ptr<float>();
    params.input_grad = memory_or_null(dense[0]);
    params.sum_grad = memory_or_null(dense[1]);
    params.beta_grad = dense[2].defined() ? dense[2].const_data_ptr<float>() : nullptr;
    params.streams_grad = gradients[0].mutable_data_ptr();
    const auto memory = [&](size_t i) { return gradients[i + 1].mutable_data_ptr(); };
    params.grads = {memory(0), memory(1), memory(2), memory(3), memory(4), memory(5), memory(6)};
    const auto& launchers = *our_cuda_kernels().launchers;
    const auto partial =
        at::empty({launchers.hyper_width_chunks(params.batch * params.length),
                   launchers.hyper_width_columns(params.dim, params.streams_count, views)},
                  saved[1].options());
    params.partial = partial.mutable_data_ptr<float>();
    launchers.hyper_width_backward(params, saved[0].device().index());
    return gradients;
  }

 private:
  static variable_list with_graph(const at::Tensor& streams, at::TensorList weights, int64_t views,
                                  const variable_list& output_grads) {
    variable_list inputs = {streams}, grads;
    inputs.insert(inputs.end(), weights.begin(), weights.end());
    const auto reference = [&](const variable_list& given) {
      const auto width =
          width_reference(given[0], weights_of(at::TensorList(given).slice(1)), views);
      variable_list flat;
      const at::Tensor outputs[] = {width.input, width.sum, width.beta.to(at::kFloat)};
      for (size_t i = 0; i < output_grads.size(); ++i)
        if (output_grads[i].defined()) flat.push_back(outputs[i].to(at::kFloat).flatten());
      return at::cat(flat);
    };
    for (const auto& grad : output_grads)
      if (grad.defined()) grads.push_back(grad.to(at::kFloat).flatten());
    auto gradients = differentiable_gradients(reference, inputs, at::cat(grads));
    gradients.emplace_back();
    return gradients;
  }
};

Reasons width_cuda_reasons(const WidthCall& call) {
  const auto& streams = call.streams;
  auto reasons = cuda_kernel_reasons(streams, "the streams");
  if (!streams.is_cuda()) return reasons;
  for (const auto& weight : list_of(call.weights)) add_unlike(reasons, streams, weight, "a weight");
  reasons.add_if(streams.numel() == 0, "there are no numbers");
  reasons.add_if(streams.size(2) > kernels::kMaxHyperFeatures, "too many features");
  reasons.add_if(call.weights.static_beta.size(0) > kernels::kMaxHyperStreams, "too many streams");
  reasons.add_if(call.views != 1 && call.views != 3, "there are neither 1 nor 3 views");
  return reasons;
}

bool any_records(const at::Tensor& streams, at::TensorList weights) {
  for (const auto& weight : weights)
    if (records_gradient({weight})) return true;
  return records_gradient({streams});
}

HyperWidth width_by_cuda(const WidthCall& call) {
  const auto streams = call.streams.contiguous();
  auto weights = list_of(call.weights);
  for (auto& weight : weights) weight = weight.contiguous();
  if (!any_records(streams, weights))
    return run_width(streams, weights_of(weights), call.views, nullptr);
  const auto outputs = WidthFunction::apply(streams, at::TensorList(weights), call.views);
  return {outputs[0], outputs[1], outputs[2]};
}

const Engines<WidthCall, HyperWidth>& width_engines() {
  static const Engines<WidthCall, HyperWidth> all(
      {{"cuda", width_cuda_reasons, width_by_cuda},
       {"reference", [](const WidthCall&) { return Reasons(); },
        [](const WidthCall& call) {
          return width_reference(call.streams, call.weights, call.views);
        }}});
  return all;
}

template <class Params>
Params depth_params(const at::Tensor& out, const at::Tensor& beta) {
  Params params;
  params.out = out.const_data_ptr();
  params.beta = beta.const_data_ptr<float>();
  params.element = element_of(out);
  params.batch = out.size(0);
  params.length = out.size(1);
  params.dim = out.size(2);
  params.streams_count = beta.size(2);
  return params;
}

at::Tensor run_depth(const at::Tensor& out, const at::Tensor& sum, const at::Tensor& beta) {
  auto params = depth_params<kernels::HyperDepth>(out, beta);
  auto streams =
      at::empty({params.batch * params.streams_count, params.length, params.dim}, out.options());
  params.sum = sum.const_data_ptr();
  params.streams = streams.mutable_data_ptr();
  our_cuda_kernels().launchers->hyper_depth_forward(params, out.device().index());
  return streams;
}

class DepthFunction : public torch::autograd::Function<DepthFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& out, const at::Tensor& sum,
                            const at::Tensor& beta) {
    ctx->save_for_backward({out, sum, beta});
    return run_depth(out, sum, beta);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &out = saved[0], &beta = saved[2];
    if (at::GradMode::is_enabled()) {
      return differentiable_gradients(
          [](const variable_list& given) { return depth_reference(given[0], given[1], given[2]); },
          saved, output_grads[0]);
    }
    const auto streams_grad = output_grads[0].contiguous();
    variable_list gradients = {at::empty_like(out), at::empty_like(out), at::empty_like(beta)};
    auto params = depth_params<kernels::HyperDepthBackward>(out, beta);
    params.streams_grad = streams_grad.const_data_ptr();
    params.out_grad = gradients[0].mutable_data_ptr();
    params.sum_grad = gradients[1].mutable_data_ptr();
    params.beta_grad = gradients[2].mutable_data_ptr<float>();
    our_cuda_kernels().launchers->hyper_depth_backward(params, out.device().index());
    return gradients;
  }
};

Reasons depth_cuda_reasons(const DepthCall& call) {
  const auto& out = call.out;
  auto reasons = cuda_kernel_reasons(out, "the output");
  if (!out.is_cuda()) return reasons;
  add_unlike(reasons, out, call.sum, "the sum");
  reasons.add_if(call.beta.device() != out.device() || call.beta.scalar_type() != at::kFloat ||
                     !is_plain_on_cuda(call.beta),
                 "beta is not a plain tensor of float32 on the same device");
  reasons.add_if(out.numel() == 0, "there are no numbers");
  reasons.add_if(out.size(2) > kernels::kMaxHyperFeatures, "too many features");
  return reasons;
}

at::Tensor depth_by_cuda(const DepthCall& call) {
  const auto out = call.out.contiguous(), sum = call.sum.contiguous(),
             beta = call.beta.contiguous();
  return records_gradient({out, sum, beta}) ? DepthFunction::apply(out, sum, beta)
                                            : run_depth(out, sum, beta);
}

const Engines<DepthCall, at::Tensor>& depth_engines() {
  static const Engines<DepthCall, at::Tensor> all(
      {{"cuda", depth_cuda_reasons, depth_by_cuda},
       {"reference", [](const DepthCall&) { return Reasons(); },
        [](const DepthCall& call) { return depth_reference(call.out, call.sum, call.beta); }}});
  return all;
}

WidthCall width_call(const at::Tensor& streams, const HyperConnectionWeights& weights,
                     int64_t views) {
  require(streams.dim() == 3 && streams.size(0) % weights.static_beta.size(0) == 0,
          "[hyper_width] expected streams [b * " + std::to_string(weights.static_beta.size(0)) +
              ", n, dim]");
  return {streams, weights, views};
}

DepthCall depth_call(const at::Tensor& out, const at::Tensor& sum, const at::Tensor& beta) {
  require(out.dim() == 3 && out.sizes() == sum.sizes() && beta.dim() == 3,
          "[hyper_depth] expected an output and a sum [b, n, dim], and beta [b, n, streams]");
  return {out, sum, beta};
}

}  // namespace

HyperWidth hyper_width(const at::Tensor& streams, const HyperConnectionWeights& weights,
                       int64_t views) {
  return width_engines().run(width_call(streams, weights, views));
}

at::Tensor hyper_depth(const at::Tensor& out, const at::Tensor& sum, const at::Tensor& beta) {
  return depth_engines().run(depth_call(out, sum, beta));
}

HyperWidth hyper_width_on(const std::string& engine, const at::Tensor& streams,
                          const HyperConnectionWeights& weights, int64_t views) {
  return width_engines().run_on(engine, width_call(streams, weights, views));
}

at::Tensor hyper_depth_on(const std::string& engine, const at::Tensor& out, const at::Tensor& sum,
                          const at::Tensor& beta) {
  return depth_engines().run_on(engine, depth_call(out, sum, beta));
}

std::vector<EngineReport> explain_hyper_width(const at::Tensor& streams,
                                              const HyperConnectionWeights& weights,
                                              int64_t views) {
  return width_engines().explain(width_call(streams, weights, views));
}

std::vector<EngineReport> explain_hyper_depth(const at::Tensor& out, const at::Tensor& sum,
                                              const at::Tensor& beta) {
  return depth_engines().explain(depth_call(out, sum, beta));
}

}  // namespace x_transformers
