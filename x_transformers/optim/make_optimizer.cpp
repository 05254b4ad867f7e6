#include "x_transformers/optim/make_optimizer.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <set>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/optim/adafactor.h"
#include "x_transformers/optim/adamw.h"
#include "x_transformers/optim/lion.h"
#include "x_transformers/optim/muon.h"

namespace x_transformers {
namespace {

std::unique_ptr<Optimizer> make_muon(const OptimizerOptions& o, NamedTensors parameters,
                                     std::vector<at::Tensor> masters,
                                     const std::vector<at::Tensor>& muon_parameters) {
  std::set<const void*> named;
  for (const at::Tensor& tensor : muon_parameters) named.insert(tensor.unsafeGetTensorImpl());
  std::vector<bool> is_muon;
  for (const at::Tensor& tensor : parameters.tensors)
    is_muon.push_back(tensor.dim() == 2 && named.count(tensor.unsafeGetTensorImpl()) > 0);
  require(std::count(is_muon.begin(), is_muon.end(), true) > 0, at("optimizer"),
          "muon has nothing to train: the model has no such matrices ({} is {})",
          option("muon_parameters"), o.muon.parameters);
  return std::make_unique<MuonAdamW>(std::move(parameters), is_muon, o, o.muon, std::move(masters));
}

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, NamedTensors parameters,
                                          std::vector<at::Tensor> masters,
                                          const std::vector<at::Tensor>& muon_parameters) {
  const auto& o = options;
  validate(o);
  if (o.optimizer == "lion") {
    return std::make_unique<Lion>(std::move(parameters), o.learning_rate, o.weight_decay, o.lion,
                                  std::move(masters));
  }
  if (o.optimizer == "adafactor") {
    return std::make_unique<Adafactor>(std::move(parameters), o.learning_rate, o.weight_decay,
                                       o.adafactor, std::move(masters));
  }
  if (o.optimizer == "muon")
    return make_muon(o, std::move(parameters), std::move(masters), muon_parameters);
  return std::make_unique<AdamW>(std::move(parameters), o, std::move(masters));
}

}  // namespace x_transformers
