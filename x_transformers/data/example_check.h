// Whether examples are what the loss of a model takes, told by file, line and place.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "x_transformers/core/loss_inputs.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Where examples come from.
struct ExamplePlaces {
  std::string path;
  std::vector<int64_t> lines = {};      ///< of text: the line of each example, from 1
  std::vector<std::string> files = {};  ///< of files that are an example each
  /// Of text: tokens of each example, where the tensor of that name is padded.
  std::map<std::string, std::vector<int64_t>> lengths = {};
  int64_t first = 0;         ///< the place in these lists of what is example 0
  bool are_columns = false;  ///< the last axis of the tensors is columns of the file

  /// "pairs.tsv: line 3", "data.safetensors: example 3", "cats/1.png".
  std::string of(int64_t example) const;
};

/// Throws InputError unless the tensors have what the loss needs, of the right types and sizes. Ids
/// are looked at where a tensor has few enough of them for that; the others by require_ids, batch
/// by batch.
void require_fitting(const TensorMap& tensors, const ExamplePlaces& places,
                     const LossInputs& inputs);

/// The same for the ids of a batch of the examples `rows`, those that require_fitting left.
void require_ids(const TensorMap& batch, const at::Tensor& rows, const TensorMap& all,
                 const ExamplePlaces& places, const LossInputs& inputs);

/// The tensor as the loss takes it: ids int64, numbers float32, pictures in bytes from 0 to 1,
/// masks bool.
at::Tensor as_taken(const at::Tensor& tensor, const LossInput& input);

}  // namespace x_transformers
