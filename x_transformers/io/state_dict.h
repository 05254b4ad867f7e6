// The weights of a module by name, and their way to and from files.
#pragma once

#include <torch/nn/module.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Parameters and buffers of `module` and its children by dotted name, as Python's state_dict names
/// them. The tensors are the module's own, not copies. One that is registered under several names
/// appears under each of them; undefined ones are left out.
TensorMap state_dict(const torch::nn::Module& module);

/// How the names and shapes of some weights fit a module.
struct LoadReport {
  std::vector<std::string> missing;     ///< names of the module that the weights lack
  std::vector<std::string> unexpected;  ///< names of the weights that the module lacks
  std::vector<std::string> misshapen;   ///< "NAME: expected [2, 3], got [3, 2]"
  std::vector<std::string> mistyped;    ///< "NAME: expected Float, got Long"

  /// True when everything fits.
  bool clean() const {
    return missing.empty() && unexpected.empty() && misshapen.empty() && mistyped.empty();
  }
  /// One line for people: what does not fit, by kind, with counts and at most 20 names of each; ""
  /// when clean.
  std::string describe() const;
};

/// Copies `weights` into the parameters and buffers of `module`, converting device
/// and, among floating-point and among integer types, dtype; without a gradient.
///
/// A name that is missing counts as present when another name of the same tensor is there. With
/// `strict`, anything missing, unexpected, misshapen or mistyped is an InputError that lists it,
/// and the module stays as it was; without, what fits is copied and the rest reported.
LoadReport load_state_dict(torch::nn::Module& module, const TensorMap& weights, bool strict = true);

/// Writes `weights` as safetensors with the metadata that every weight file of ours carries, beside
/// `metadata`: `format`: "pt", `xt_compat`: the release of Python's x-transformers whose meaning
/// they have (name_of, core/compat.h), and, when tensors are tied (same memory, shape and strides),
/// `aliases`: a JSON object from the other names of such a tensor to the one, first of all by name,
/// under which it is stored.
void save_weights(const std::filesystem::path& path, const TensorMap& weights,
                  const std::string& xt_compat, std::map<std::string, std::string> metadata = {});

/// save_weights of state_dict(module).
void save_model(const std::filesystem::path& path, const torch::nn::Module& module,
                const std::string& xt_compat, std::map<std::string, std::string> metadata = {});

/// The weights of a file, and the release whose meaning they have.
struct FileWeights {
  TensorMap tensors;
  std::string xt_compat;  ///< as the file says; empty: it does not, as files that Python wrote
};

/// Reads weights from a .safetensors file (load_safetensors), or a .pt, .pth or .bin file of
/// torch.save (load_pt). Aliases are expanded: tied tensors come under each of their names and
/// share memory. Whether a model may take weights of this release: weights_of_release
/// (io/weight_translation.h).
///
/// InputError for another extension and unsound aliases.
FileWeights load_model_weights(const std::filesystem::path& path);

}  // namespace x_transformers
