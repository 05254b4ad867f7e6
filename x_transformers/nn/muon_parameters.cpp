#include "x_transformers/nn/muon_parameters.h"

#include <torch/nn/modules/embedding.h>

#include <set>

#include "x_transformers/nn/block.h"

namespace x_transformers {
namespace {

/// Tensors in the order of their coming, each once.
class DistinctTensors {
 public:
  void add(const at::Tensor& tensor) {
    if (seen_.insert(tensor.unsafeGetTensorImpl()).second) tensors_.push_back(tensor);
  }
  void add(const std::vector<at::Tensor>& tensors) {
    for (const at::Tensor& tensor : tensors) add(tensor);
  }
  void ignore(const at::Tensor& tensor) { seen_.insert(tensor.unsafeGetTensorImpl()); }
  std::vector<at::Tensor> tensors() const { return tensors_; }

 private:
  std::set<const void*> seen_;
  std::vector<at::Tensor> tensors_;
};

}  // namespace

std::vector<at::Tensor> muon_parameters(const torch::nn::Module& module) {
  DistinctTensors found;
  module.apply([&](const torch::nn::Module& part) {
    if (const auto* block = dynamic_cast<const Block*>(&part)) found.add(block->muon_parameters());
  });
  return found.tensors();
}

std::vector<at::Tensor> matrix_parameters(const torch::nn::Module& module) {
  DistinctTensors found;
  // Every table is one of LibTorch's, which has no interface to ask.
  module.apply([&](const torch::nn::Module& part) {
    if (const auto* embedding = dynamic_cast<const torch::nn::EmbeddingImpl*>(&part))
      found.ignore(embedding->weight);
  });
  for (const at::Tensor& parameter : module.parameters()) {
    if (parameter.dim() == 2) found.add(parameter);
  }
  return found.tensors();
}

}  // namespace x_transformers
