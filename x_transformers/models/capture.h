// Whether training steps of a model can be CUDA graphs.
#pragma once

#include <torch/nn/module.h>

#include <string>

namespace x_transformers {

/// Why a training step of `model` cannot be captured once and replayed: the option whose algorithm
/// has the host decide anew in each step, in any of its modules. Empty: it can.
std::string capture_refusal(const torch::nn::Module& model);

}  // namespace x_transformers
