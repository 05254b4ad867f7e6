// Weights of one release of Python's x-transformers in a model of another.
#pragma once

#include <torch/nn/module.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/io/tensor_map.h"
#include "x_transformers/io/weight_file.h"

namespace x_transformers {

/// How weights with the meaning of one release become weights with that of another: names, shapes
/// or values change. A rule throws InputError where the weights are not what it expects.
struct WeightTranslation {
  std::string name;      ///< for people: what changed between the releases
  std::string from, to;  ///< releases, as metadata and model files name them
  std::function<void(TensorMap& tensors)> apply;
};
using WeightTranslations = std::vector<WeightTranslation>;

/// The rules that hold for any module: none. Those of a module that is known are release_rules'
/// (interchange/release_rules.h), as they depend on its options.
const WeightTranslations& weight_translations();

/// The tensors of `weights`, which come from the file `path`, with the meaning that a model of
/// `compat` gives them: as they are where the file says the same release or none, else by the rule
/// of `rules` for the two releases. InputError, naming the file, both releases and `xt_compat`,
/// where there is no such rule.
TensorMap weights_of_release(FileWeights weights, const Compat& compat,
                             const std::filesystem::path& path,
                             const WeightTranslations& rules = weight_translations());

/// load_weights (io/weight_file.h) by other rules than weight_translations().
TensorMap load_weights(torch::nn::Module& module, const Compat& compat,
                       const std::filesystem::path& path, const WeightSelection& selection,
                       const WeightTranslations& rules);

}  // namespace x_transformers
