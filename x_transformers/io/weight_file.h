// The weights of a file, whatever it is that holds them, and their way into a module.
#pragma once

#include <torch/nn/module.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Which weights of a file are meant, and under which names.
struct WeightSelection {
  /// Which of several dicts of tensors: "ema.model" (choose_tensor_dict), or how the names begin
  /// that are meant, without the dot. Empty: the only one there is.
  std::string key = {};
  std::vector<std::string> strip = {};   ///< beginnings that are taken off the names, in this order
  std::vector<std::string> rename = {};  ///< then "REGEX=NEW" each: replaced wherever it matches
  /// The release of Python's x-transformers whose meaning the weights have, for files that do not
  /// say; empty: that of the model.
  std::string xt_compat = {};
  /// How names begin that are of other modules than the model, so that load_weights leaves them
  /// out.
  std::vector<std::string> of_others = {};
  /// Whether the module is made around the one that the file is likely to be of, so that
  /// load_weights does not say that names lack what the module's begin with.
  bool is_of_inner = false;
};

/// The weights of a file, and the release whose meaning they have.
struct FileWeights {
  TensorMap tensors;
  std::string xt_compat;  ///< as the file or the selection says; empty: neither does
};

/// Whether a file that begins with `start` (first_bytes) is safetensors, whole or damaged. To be
/// asked before any other format: the length that it begins with may look like the beginning of
/// one.
bool is_safetensors(const std::filesystem::path& path, std::string_view start);

/// What a file is that holds weights, or no text, by its content: "weights (safetensors)", "weights
/// (a file of torch.save)", "a GGUF file of llama.cpp", "a binary file". Empty: text, or no file.
std::string kind_of_weights(const std::filesystem::path& path);

/// Which other files a file of weights needs, in words: what an index beside it, or its name, says.
/// Empty: none that are known.
std::string part_of_several(const std::filesystem::path& path);

/// Reads weights. What the file is, its content says and not its name:
/// - safetensors (load_safetensors). Aliases of ours are expanded: tied tensors come under each of
///   their names and share memory;
/// - a file of torch.save (load_pt);
/// - the index of a model in several such files (model.safetensors.index.json), or a folder that
///   holds an index or a single file of weights.
/// Whether a model may take weights of this release: weights_of_release (io/weight_translation.h).
///
/// InputError, naming the file, for anything else, for unsound content, and where the selection
/// names what is not there.
FileWeights load_model_weights(const std::filesystem::path& path,
                               const WeightSelection& selection = {});

/// Copies the weights of a file into `module`, a model of `compat`: translated to its release
/// (weights_of_release), by its names (named_as, io/weight_names.h). Returns them so. InputError,
/// which names the file, where they do not fit, and for NaN and infinities (require_finite).
TensorMap load_weights(torch::nn::Module& module, const Compat& compat,
                       const std::filesystem::path& path, const WeightSelection& selection = {});

}  // namespace x_transformers
