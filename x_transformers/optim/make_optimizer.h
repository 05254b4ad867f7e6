// The optimizer that a run asks for.
#pragma once

#include <memory>
#include <vector>

#include "x_transformers/optim/optimizer.h"
#include "x_transformers/optim/optimizer_options.h"

namespace x_transformers {

/// The optimizer that the options choose, for `parameters` (see Optimizer). `muon_parameters` are
/// those that a model names for Muon; what is no matrix among them goes to AdamW all the same.
/// Throws InputError where nothing is left for Muon.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, NamedTensors parameters,
                                          std::vector<at::Tensor> masters = {},
                                          const std::vector<at::Tensor>& muon_parameters = {});

}  // namespace x_transformers
