// Which parameters x-transformers trains with Muon.
#pragma once

#include <torch/nn/module.h>

#include <vector>

namespace x_transformers {

/// The parameters that muon_parameters() of x-transformers names, of every block within `module`,
/// itself among them (Block::muon_parameters): of an attention those of its values and its output,
/// of a feed-forward the weights of its linear layers. Each once, in the order of the modules.
std::vector<at::Tensor> muon_parameters(const torch::nn::Module& module);

/// The parameters with two dimensions of `module` but the tables of embeddings.
std::vector<at::Tensor> matrix_parameters(const torch::nn::Module& module);

}  // namespace x_transformers
