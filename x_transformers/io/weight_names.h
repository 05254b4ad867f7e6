// Names of weights: as a file has them, and as a module has them.
#pragma once

#include <torch/nn/module.h>

#include <filesystem>
#include <string>

#include "x_transformers/core/notice.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// `tensors` without `prefix`, and a dot after it, at the beginning of their names; other names
/// stay. InputError of `strip` where no name begins so or two names become one.
TensorMap stripped(const TensorMap& tensors, const std::string& prefix);

/// `tensors` with what a regular expression (of ECMAScript, as in std::regex) matches in their
/// names replaced; `rule` is "REGEX=NEW", split at the last =, and \1 or $1 in NEW are groups.
/// InputError of `rename` for what is no such rule, matches no name, or makes one of two names.
TensorMap renamed(const TensorMap& tensors, const std::string& rule);

/// Those of `tensors` whose names begin with `key` and a dot, without these. InputError, which
/// names `path`, where there are none.
TensorMap under_key(const TensorMap& tensors, std::string key, const std::filesystem::path& path);

/// Weights by the names of a module.
struct NamedWeights {
  TensorMap tensors;
  std::string change;  ///< what was done to the names: "without 'module.'"; empty: nothing
  /// Whether all that was done is to put in front what the module's names begin with.
  bool is_completed = false;
};

/// `weights` by the names of `module`: as they are, or, where more names fit then, without what
/// wrappers of PyTorch put in (torch.compile's `_orig_mod.`), without a beginning that all names
/// share (`module.`, `net.`), or with the one that all names of the module share. Names of which
/// then not even half of the module's are known stay as they are.
NamedWeights named_as(const torch::nn::Module& module, TensorMap weights);

/// What to do about `weights` whose names do not fit `module`, in words that may name `key`
/// (WeightSelection); empty: no idea.
Text naming_hint(const torch::nn::Module& module, const TensorMap& weights);

/// The name within the names of `tensors` that torch.compile or the like has put there and no model
/// has, as "_orig_mod."; empty: there is none.
std::string wrapper_in_names(const TensorMap& tensors);

}  // namespace x_transformers
