#include "x_transformers/ops/layer_mix.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct MixCall {
  const std::vector<at::Tensor>& layers;
  const at::Tensor& logits;
  bool use_softmax;
};

at::Tensor reference(at::TensorList layers, const at::Tensor& logits, bool use_softmax) {
  const auto weights = use_softmax ? logits.softmax(-1) : logits.relu();
  return at::einsum("l b n d, b n v l -> v b n d", {at::stack(layers), weights});
}

/// What the parameters of both passes share; layers and logits are dense.
template <class Params>
Params params_of(at::TensorList layers, const at::Tensor& logits, bool use_softmax) {
  Params params;
  for (size_t l = 0; l < layers.size(); ++l) params.layers[l] = layers[l].const_data_ptr();
  params.logits = logits.const_data_ptr();
  params.element = element_of(logits);
  params.uses_softmax = use_softmax;
  params.count = logits.size(3);
  params.views = logits.size(2);
  params.rows = logits.size(0) * logits.size(1);
  params.dim = layers[0].size(2);
  return params;
}

at::Tensor run_forward(at::TensorList layers, const at::Tensor& logits, bool use_softmax) {
  const auto& x = layers[0];
  auto mixed = at::empty({logits.size(2), x.size(0), x.size(1), x.size(2)}, x.options());
  auto params = params_of<kernels::LayerMix>(layers, logits, use_softmax);
  params.out = mixed.mutable_data_ptr();
  our_cuda_kernels().launchers->layer_mix_forward(params, x.device().index());
  return mixed;
}

/// Whether nobody else has the numbers of a gradient.
bool is_ours_alone(const at::Tensor& gradient) {
  return gradient.use_count() == 1 && gradient.storage().use_count() == 1 &&
         gradient.is_contiguous();
}

class MixFunction : public torch::autograd::Function<MixFunction> {
 public:
  /// The mix, then the layers.
  static variable_list forward(AutogradContext* ctx, at::TensorList layers,
                               const at::Tensor& logits, bool use_softmax) {
    variable_list saved(layers.begin(), layers.end());
    saved.push_back(logits);
    ctx->save_for_backward(saved);
    ctx->saved_data["use_softmax"] = use_softmax;
    ctx->set_materialize_grads(false);
    variable_list outputs = {run_forward(layers, logits, use_softmax)};
    outputs.insert(outputs.end(), layers.begin(), layers.end());
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    auto layers = ctx->get_saved_variables();
    const auto logits = layers.back();
    layers.pop_back();
    const bool use_softmax = ctx->saved_data["use_softmax"].toBool();
    variable_list gradients(output_grads.begin() + 1, output_grads.end());
    gradients.resize(layers.size() + 2);  // of the logits and use_softmax
    if (!output_grads[0].defined()) return gradients;
    if (at::GradMode::is_enabled()) {
      add_with_graph(layers, logits, use_softmax, output_grads[0], gradients);
    } else {
      add(layers, logits, use_softmax, output_grads, gradients);
    }
    return gradients;
  }

 private:
  static void add(const variable_list& layers, const at::Tensor& logits, bool use_softmax,
                  const variable_list& output_grads, variable_list& gradients) {
    const auto mixed_grad = output_grads[0].contiguous();
    auto params = params_of<kernels::LayerMixBackward>(layers, logits, use_softmax);
    params.out_grad = mixed_grad.const_data_ptr();
    variable_list known;
    for (size_t l = 0; l < layers.size(); ++l) {
      gradients[l].reset();
      const auto& grad = output_grads[l + 1];
      const bool adds_in_place = grad.defined() && is_ours_alone(grad);
      known.push_back(grad.defined() ? grad.contiguous() : grad);
      gradients[l] = adds_in_place ? grad : at::empty_like(layers[l]);
      params.known_grads[l] = grad.defined() ? known[l].const_data_ptr() : nullptr;
      params.layer_grads[l] = gradients[l].mutable_data_ptr();
    }
    gradients[layers.size()] = at::empty_like(logits);
    params.logits_grad = gradients[layers.size()].mutable_data_ptr();
    our_cuda_kernels().launchers->layer_mix_backward(params, logits.device().index());
  }

  static void add_with_graph(const variable_list& layers, const at::Tensor& logits,
                             bool use_softmax, const at::Tensor& mixed_grad,
                             variable_list& gradients) {
    auto inputs = layers;
    inputs.push_back(logits);
    const auto more = differentiable_gradients(
        [&](const variable_list& given) {
          return reference(at::TensorList(given).slice(0, layers.size()), given.back(),
                           use_softmax);
        },
        inputs, mixed_grad);
    for (size_t i = 0; i < more.size(); ++i) {
      if (!more[i].defined()) continue;
      gradients[i] = gradients[i].defined() ? gradients[i] + more[i] : more[i];
    }
  }
};

Reasons cuda_reasons(const MixCall& call) {
  auto reasons = cuda_kernel_reasons(call.logits, "logits");
  if (!call.logits.is_cuda()) return reasons;
  for (const auto& layer : call.layers) {
    add_unlike(reasons, call.logits, layer, "a layer");
    if (!reasons.empty()) break;
  }
  reasons.add_if(call.logits.numel() == 0 || call.layers[0].numel() == 0, "there are no numbers");
  reasons.add_if(call.logits.size(3) > kernels::kMaxMixedLayers, "too many layers");
  return reasons;
}

MixedLayers by_cuda(const MixCall& call) {
  variable_list layers;
  for (const auto& layer : call.layers) layers.push_back(layer.contiguous());
  const auto logits = call.logits.contiguous();
  const bool records = records_gradient({logits}) ||
                       std::any_of(layers.begin(), layers.end(),
                                   [](const at::Tensor& x) { return records_gradient({x}); });
  if (!records) return {run_forward(layers, logits, call.use_softmax), call.layers};
  auto outputs = MixFunction::apply(at::TensorList(layers), logits, call.use_softmax);
  return {outputs[0], {outputs.begin() + 1, outputs.end()}};
}

const Engines<MixCall, MixedLayers>& mix_engines() {
  static const Engines<MixCall, MixedLayers> all(
      {{"cuda", cuda_reasons, by_cuda},
       {"reference", [](const MixCall&) { return Reasons(); },
        [](const MixCall& call) {
          return MixedLayers{reference(call.layers, call.logits, call.use_softmax), call.layers};
        }}});
  return all;
}

MixCall mix_call(const std::vector<at::Tensor>& layers, const at::Tensor& logits,
                 bool use_softmax) {
  require(!layers.empty(), "[mix_layers] expected one layer at least");
  require(logits.dim() == 4 && logits.size(3) == static_cast<int64_t>(layers.size()),
          fmt::format("[mix_layers] expected logits [b, n, views, {}], got {}", layers.size(),
                      how_many(logits.dim(), "dimension")));
  for (const auto& layer : layers) {
    require(
        layer.dim() == 3 && layer.sizes() == layers[0].sizes() && layer.size(0) == logits.size(0) &&
            layer.size(1) == logits.size(1),
        "[mix_layers] expected layers [b, n, dim] of one shape, with the b and n of the logits");
  }
  return {layers, logits, use_softmax};
}

}  // namespace

MixedLayers mix_layers(const std::vector<at::Tensor>& layers, const at::Tensor& logits,
                       bool use_softmax) {
  return mix_engines().run(mix_call(layers, logits, use_softmax));
}

at::Tensor mix_layers_on(const std::string& engine, const std::vector<at::Tensor>& layers,
                         const at::Tensor& logits, bool use_softmax) {
  return mix_engines().run_on(engine, mix_call(layers, logits, use_softmax)).mixed;
}

std::vector<EngineReport> explain_mix_layers(const std::vector<at::Tensor>& layers,
                                             const at::Tensor& logits) {
  return mix_engines().explain(mix_call(layers, logits, /*use_softmax=*/true));
}

}  // namespace x_transformers
