#include "x_transformers/nn/layer_visits.h"

#include <limits>
#include <set>
#include <utility>

#include "x_transformers/nn/block.h"

namespace x_transformers {
namespace {

/// Of a parameter that is of no layer alone.
constexpr auto kOutside = std::numeric_limits<size_t>::max();

/// Walks through a model from the whole to its parts.
class LayerWalk {
 public:
  explicit LayerWalk(ModelLayers& layers) : layers_(layers) {}

  /// `layer` is the one that `module` is in; a stack within a layer is a part of that.
  void walk(torch::nn::Module& module, size_t layer) {
    if (!seen_.emplace(&module, layer).second) return;
    for (const auto& parameter : module.parameters(/*recurse=*/false)) {
      const auto [found, is_new] = layers_.layer_of.emplace(parameter.unsafeGetTensorImpl(), layer);
      if (!is_new && found->second != layer) found->second = kOutside;
    }
    auto* stack = layer == kOutside ? dynamic_cast<VisitedStack*>(&module) : nullptr;
    for (const auto& child : module.children()) {
      const bool holds_layers =
          stack != nullptr && dynamic_cast<LayerList*>(child.get()) != nullptr;
      holds_layers ? walk_layers(*stack, *child) : walk(*child, layer);
    }
  }

 private:
  void walk_layers(VisitedStack& stack, const torch::nn::Module& list) {
    layers_.first_layer.emplace(&stack, layers_.count);
    for (const auto& layer : list.children()) walk(*layer, layers_.count++);
  }

  ModelLayers& layers_;
  std::set<std::pair<const torch::nn::Module*, size_t>> seen_;
};

}  // namespace

ModelLayers::ModelLayers(torch::nn::Module& model) {
  LayerWalk(*this).walk(model, kOutside);
  std::erase_if(layer_of, [](const auto& entry) { return entry.second == kOutside; });
}

}  // namespace x_transformers
