// A safetensors file of examples as a data source.
#pragma once

#include <memory>
#include <optional>

#include "x_transformers/data/data_source.h"

namespace x_transformers {

/// Examples of named tensors: entry i of the first dimension of every tensor in the file is example
/// i, so that all have the same first dimension. A batch holds data.batch_size examples of each
/// tensor under its name; by default an epoch draws each once. data.val_path is a file of the same
/// tensors; else the last data.val_fraction of the examples is kept for validation. The file is
/// mapped, not read whole. Throws InputError naming the file and the tensor, or the option that
/// does not go with examples (data.tokenizer, data.seq_len).
std::shared_ptr<const DataSource> open_tensor_source(const DataOptions& options,
                                                     const DataContext& context);

/// The same for tensors that another reader of files has made of data.path and, where it is given,
/// of data.val_path.
std::shared_ptr<const DataSource> source_of_examples(TensorMap training,
                                                     std::optional<TensorMap> validation,
                                                     const DataOptions& options,
                                                     const DataContext& context);

}  // namespace x_transformers
