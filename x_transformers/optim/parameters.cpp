#include "x_transformers/optim/parameters.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "x_transformers/core/error.h"

namespace x_transformers {

NamedTensors trainable_parameters(const torch::nn::Module& module) {
  NamedTensors found;
  std::set<const void*> seen;
  for (const auto& item : module.named_parameters()) {
    const at::Tensor& tensor = item.value();
    if (!tensor.requires_grad() || !seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    found.names.push_back(item.key());
    found.tensors.push_back(tensor);
  }
  require(!found.tensors.empty(), "the model has no parameter to train");
  const at::Tensor& first = found.tensors.front();
  for (size_t i = 1; i < found.tensors.size(); ++i) {
    const at::Tensor& tensor = found.tensors[i];
    require(
        tensor.device() == first.device() && tensor.scalar_type() == first.scalar_type(),
        fmt::format("parameters must share one device and type: {} is {} on {}, {} is {} on {}",
                    found.names[0], c10::toString(first.scalar_type()), first.device().str(),
                    found.names[i], c10::toString(tensor.scalar_type()), tensor.device().str()));
  }
  return found;
}

namespace {

/// Room for each of these tensors in one piece of memory, in their order: weights that are used
/// together, such as those of queries, keys and values, are then one matrix (ops/side_by_side.h).
std::vector<at::Tensor> places_side_by_side(const std::vector<at::Tensor>& like,
                                            at::ScalarType dtype) {
  constexpr int64_t kMultiple = 128;  // cuBLAS knows faster ways for round addresses
  const auto rounded = [](int64_t count) {
    return (count + kMultiple - 1) / kMultiple * kMultiple;
  };
  int64_t count = 0;
  for (const auto& t : like) count += rounded(t.numel());
  const auto all = at::empty({count}, like.at(0).options().dtype(dtype).requires_grad(false));
  std::vector<at::Tensor> places;
  count = 0;
  for (const auto& t : like) {
    places.push_back(all.narrow(0, count, t.numel()).view(t.sizes()));
    count += rounded(t.numel());
  }
  return places;
}

/// Whether there are some, all on one CUDA device.
bool are_on_one_gpu(const std::vector<at::Tensor>& tensors) {
  return !tensors.empty() && std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& t) {
    return t.is_cuda() && t.device() == tensors[0].device();
  });
}

}  // namespace

std::vector<at::Tensor> cast_parameters(const NamedTensors& parameters, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> places;
  if (are_on_one_gpu(parameters.tensors)) places = places_side_by_side(parameters.tensors, dtype);
  std::vector<at::Tensor> masters;
  for (size_t i = 0; i < parameters.tensors.size(); ++i) {
    at::Tensor parameter = parameters.tensors[i];
    const auto value = parameter.detach();
    masters.push_back(value.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true));
    parameter.set_data(places.empty() ? value.to(dtype) : places[i].copy_(value));
  }
  return masters;
}

std::vector<at::Tensor> cast_parameters(torch::nn::Module& module, const NamedTensors& parameters,
                                        at::ScalarType dtype) {
  auto masters = cast_parameters(parameters, dtype);
  for (at::Tensor& parameter : module.parameters()) {
    if (!parameter.requires_grad() && parameter.is_floating_point())
      parameter.set_data(parameter.detach().to(dtype));
  }
  return masters;
}

ScopedWeights::ScopedWeights(std::vector<at::Tensor> parameters,
                             const std::vector<at::Tensor>& values)
    : parameters_(std::move(parameters)) {
  TORCH_CHECK(parameters_.size() == values.size(), "[ScopedWeights] expected ", parameters_.size(),
              " values, got ", values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    TORCH_CHECK(parameters_[i].sizes() == values[i].sizes(), "[ScopedWeights] value ", i,
                " must be ", parameters_[i].sizes(), ", got ", values[i].sizes());
  }
  for (size_t i = 0; i < values.size(); ++i) {
    before_.push_back(parameters_[i].detach());
    parameters_[i].set_data(values[i]);
  }
}

ScopedWeights::~ScopedWeights() {
  for (size_t i = 0; i < before_.size(); ++i) parameters_[i].set_data(before_[i]);
}

}  // namespace x_transformers
