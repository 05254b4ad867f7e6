// Weights of one release of Python's x-transformers in a model of another.
#pragma once

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

/// The rules that there are, one for each pair of releases. None yet: there is one release.
const WeightTranslations& weight_translations();

/// The tensors of `weights`, which come from the file `path`, with the meaning that a model of
/// `compat` gives them: as they are where the file says the same release or none, else by the rule
/// of `rules` for the two releases. InputError, naming the file, both releases and `xt_compat`,
/// where there is no such rule.
TensorMap weights_of_release(FileWeights weights, const Compat& compat,
                             const std::filesystem::path& path,
                             const WeightTranslations& rules = weight_translations());

}  // namespace x_transformers
