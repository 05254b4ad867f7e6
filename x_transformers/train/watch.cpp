#include "x_transformers/train/watch.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <string_view>

#include "x_transformers/nn/block.h"

namespace x_transformers {
namespace {

/// A part of a model with a name of its own in what is watched: a layer of a stack, or else the
/// module that a parameter stands in.
struct WatchedPart {
  std::string name;
  bool is_layer = false;
};

/// Finds the part of each module and of each parameter.
struct PartFinder {
  std::map<const torch::nn::Module*, WatchedPart> of_module;
  std::map<std::string, std::string> of_parameter;  ///< names

  void add(const torch::nn::Module& module, const std::string& name, const WatchedPart& layer) {
    const auto part = layer.is_layer ? layer : WatchedPart{name};
    of_module.try_emplace(&module, part);
    const auto below = name.empty() ? name : name + ".";
    for (const auto& item : module.named_parameters(/*recurse=*/false))
      of_parameter.emplace(below + item.key(), part.name.empty() ? item.key() : part.name);
    const bool holds_layers = dynamic_cast<const LayerList*>(&module) != nullptr;
    for (const auto& child : module.named_children()) {
      const auto path = below + child.key();
      // A stack within a layer is a part of it.
      const bool is_layer = holds_layers && !layer.is_layer;
      add(*child.value(), path, is_layer ? WatchedPart{path, true} : layer);
    }
  }
};

at::Tensor norm_of(const at::Tensor& t, double order) {
  return at::linalg_vector_norm(t, order, c10::nullopt, /*keepdim=*/false, at::kFloat);
}

constexpr double kMax = std::numeric_limits<double>::infinity();

}  // namespace

Watch::Watch(const torch::nn::Module& model, const Optimizer& optimizer) : optimizer_(optimizer) {
  PartFinder parts;
  parts.add(model, "", {});
  std::map<std::string, size_t> places;
  for (const auto& name : optimizer.parameters().names) {
    const auto [found, is_new] = places.try_emplace(parts.of_parameter.at(name), groups_.size());
    if (is_new) groups_.push_back({found->first});
    group_of_.push_back(found->second);
  }
  for (const auto& part : model.named_modules("", /*include_self=*/false)) {
    if (dynamic_cast<const Block*>(part.value().get()) == nullptr) continue;
    const auto& [layer, is_layer] = parts.of_module.at(part.value().get());
    if (!is_layer || !places_.try_emplace(part.value().get(), shown_.size()).second) continue;
    shown_.emplace_back().layer = layer;
  }
}

void Watch::begin() {
  for (auto& shown : shown_) shown.stream = shown.branch = {};
}

void Watch::add(Activation& activation, const at::Tensor& value) {
  const at::NoGradGuard no_grad;
  const auto squares = norm_of(value.detach(), 2).square(), largest = norm_of(value.detach(), kMax);
  const bool is_first = !activation.squares.defined();
  activation.squares = is_first ? squares : activation.squares + squares;
  activation.largest = is_first ? largest : at::maximum(activation.largest, largest);
  activation.count += static_cast<double>(value.numel());
}

void Watch::see(const torch::nn::Module& module, const char* what, const at::Tensor& value) {
  const std::string_view name = what;
  const bool is_stream = name == probed::kStream;
  if (!is_stream && name != probed::kBranch) return;
  const auto found = places_.find(&module);
  if (found == places_.end()) return;
  auto& layer = shown_[found->second];
  layer.is_seen = true;
  add(is_stream ? layer.stream : layer.branch, value);
}

at::Tensor Watch::measure(const std::vector<at::Tensor>& gradients) {
  const at::NoGradGuard no_grad;
  const auto& weights = optimizer_.weights().tensors;
  const auto options = at::TensorOptions(weights.front().device()).dtype(at::kFloat);
  const auto none = at::full({}, std::nan(""), options);
  std::vector<at::Tensor> numbers;
  std::vector<std::vector<at::Tensor>> norms(groups_.size()), maxes(groups_.size()),
      sizes(groups_.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    const auto group = group_of_[i];
    sizes[group].push_back(norm_of(weights[i], 2));
    if (!gradients[i].defined()) continue;
    norms[group].push_back(norm_of(gradients[i], 2));
    maxes[group].push_back(norm_of(gradients[i], kMax));
  }
  for (size_t group = 0; group < groups_.size(); ++group) {
    const bool has_gradients = !norms[group].empty();
    groups_[group].has_gradients |= has_gradients;
    numbers.push_back(has_gradients ? norm_of(at::stack(norms[group]), 2) : none);
    numbers.push_back(has_gradients ? norm_of(at::stack(maxes[group]), kMax) : none);
    numbers.push_back(norm_of(at::stack(sizes[group]), 2));
  }
  const auto root_mean_square = [&](const Activation& activation) {
    return activation.squares.defined() ? (activation.squares / activation.count).sqrt() : none;
  };
  for (const auto& layer : shown_) {
    numbers.push_back(root_mean_square(layer.stream));
    numbers.push_back(layer.stream.largest.defined() ? layer.stream.largest : none);
    numbers.push_back(root_mean_square(layer.branch));
  }
  return at::stack(numbers);
}

std::vector<WatchedNumber> Watch::read(const at::Tensor& measured) const {
  const auto values = measured.to(at::kCPU, at::kDouble).contiguous();
  const auto* value = values.data_ptr<double>();
  std::vector<WatchedNumber> numbers;
  const auto take = [&](const std::string& layer, const char* name, bool is_known) {
    if (is_known) numbers.push_back({layer, name, *value});
    ++value;
  };
  for (const auto& group : groups_) {
    take(group.layer, "grad_norm", group.has_gradients);
    take(group.layer, "grad_max", group.has_gradients);
    take(group.layer, "weight_norm", /*is_known=*/true);
  }
  for (const auto& layer : shown_) {
    for (const char* name : {"stream_rms", "stream_max", "branch_rms"})
      take(layer.layer, name, layer.is_seen);
  }
  return numbers;
}

}  // namespace x_transformers
