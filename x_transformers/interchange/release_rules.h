// Weights of other releases of Python's x-transformers in a model that is known by its modules.
#pragma once

#include <torch/nn/module.h>

#include "x_transformers/io/weight_translation.h"

namespace x_transformers {

/// The rules by which `module`, or what it holds, takes weights of another release than its own.
/// They refuse, naming the option, weights that stand for other numbers with the options of the
/// module (the rows of PythonMeaning that it reads, MeaningReader), and translate what differs in
/// the weights alone. Of use while `module` lives.
WeightTranslations release_rules(torch::nn::Module& module);

}  // namespace x_transformers
