// The weights of a module by name, and their way to and from files.
#pragma once

#include <torch/nn/module.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Parameters and buffers of `module` and its children by dotted name, as Python's state_dict names
/// them. The tensors are the module's own, not copies. One that is registered under several names
/// appears under each of them; undefined ones are left out.
TensorMap state_dict(const torch::nn::Module& module);

/// A tensor of the weights that a module does not take.
struct Misfit {
  std::string name;
  std::string why;  ///< "expected [2, 3], got [3, 2]", "expected Float, got Long"
  bool operator==(const Misfit&) const = default;
};

/// How the names and shapes of some weights fit a module.
struct LoadReport {
  std::vector<std::string> missing;     ///< names of the module that the weights lack
  std::vector<std::string> unexpected;  ///< names of the weights that the module lacks
  std::vector<Misfit> misshapen, mistyped;

  /// True when everything fits.
  bool clean() const {
    return missing.empty() && unexpected.empty() && misshapen.empty() && mistyped.empty();
  }
  /// One line for people: what does not fit, by kind, with counts; many names are grouped by how
  /// they begin, and tensors that do not fit for one reason are counted. "" when clean.
  std::string describe() const;
};

/// How `weights` would fit the tensors `own` of a module.
LoadReport compare_weights(const TensorMap& own, const TensorMap& weights);

/// Copies `weights` into the parameters and buffers of `module`, converting device and, among
/// floating-point and among integer types, dtype; without a gradient.
///
/// A name that is missing counts as present when another name of the same tensor is there. With
/// `strict`, anything missing, unexpected, misshapen or mistyped is an InputError that lists it,
/// and the module stays as it was; without, what fits is copied and the rest reported.
LoadReport load_state_dict(torch::nn::Module& module, const TensorMap& weights, bool strict = true);

/// How tensors that are one under several names (same memory, shape and strides) are written.
enum class TiedWeights {
  once,  ///< with the metadata `aliases`, which only this library reads
  each,  ///< under every name, as Python's load_state_dict asks for
};

/// Writes `weights` as safetensors with the metadata that every weight file of ours carries, beside
/// `metadata`: `format`: "pt", `xt_compat`: the release of Python's x-transformers whose meaning
/// they have (name_of, core/compat.h), and, where tied tensors are written once, `aliases`: a JSON
/// object from the other names of such a tensor to the one, first of all by name, under which it is
/// stored. Returns how many tensors the file holds. `checksum` and `read` are save_safetensors's.
std::size_t save_weights(const std::filesystem::path& path, const TensorMap& weights,
                         const std::string& xt_compat,
                         std::map<std::string, std::string> metadata = {},
                         TiedWeights tied = TiedWeights::once, Checksum checksum = Checksum::none,
                         const ReadTensor& read = {});

/// save_weights of state_dict(module), with a checksum.
void save_model(const std::filesystem::path& path, const torch::nn::Module& module,
                const std::string& xt_compat, std::map<std::string, std::string> metadata = {});

}  // namespace x_transformers
