// Stacks that tell which of their layers they come to, for whoever has the layers' parameters
// elsewhere until then.
#pragma once

#include <torch/nn/module.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace x_transformers {

class VisitedStack;

class LayerVisitor {
 public:
  virtual ~LayerVisitor() = default;
  /// `stack` is about to run these of its layers, by their places in its LayerList; where they are
  /// computed again for the backward pass, once more. Layers that are computed again together are
  /// reported together.
  virtual void come_to(const VisitedStack& stack, const std::vector<int64_t>& layers) = 0;
};

/// A stack with a LayerList among its children, of whose modules no other part of it makes use.
class VisitedStack {
 public:
  virtual ~VisitedStack() = default;
  /// Who is told; null: nobody. It must outlive the next call.
  void set_layer_visitor(LayerVisitor* visitor) { visitor_ = visitor; }

 protected:
  void come_to(const std::vector<int64_t>& layers) const {
    if (visitor_ != nullptr) visitor_->come_to(*this, layers);
  }

 private:
  LayerVisitor* visitor_ = nullptr;
};

/// The layers of all stacks of a model, numbered one stack after the other.
struct ModelLayers {
  std::map<VisitedStack*, size_t> first_layer;  ///< the number of each stack's first layer
  size_t count = 0;
  /// The layer of each parameter, by its TensorImpl. Parameters that several layers share, or that
  /// belong to no layer, are not in it.
  std::map<const void*, size_t> layer_of;

  explicit ModelLayers(torch::nn::Module& model);
};

}  // namespace x_transformers
