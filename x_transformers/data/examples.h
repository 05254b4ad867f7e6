// Files whose content is examples: what a run trains on and what it validates on, as named tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/data/data_options.h"
#include "x_transformers/data/example_check.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Entry i of the first dimension of every tensor is example i.
struct ExamplePart {
  TensorMap tensors;
  ExamplePlaces places;
};

/// Without validation that has no tensors.
struct Examples {
  ExamplePart training, validation;
  std::vector<Notice> warnings = {};  ///< what the user should know of them
};

/// Safetensors files, whose tensors have the same first dimension. They are mapped, not read whole.
Examples open_tensor_examples(const DataOptions& options);

/// Text files of two columns, separated by a tab: what an encoder-decoder reads, and what it
/// writes. src [examples, longest] int64, its mask [examples, longest] bool, and tgt [examples,
/// longest + 2] int64, which begins and ends with the end-of-text token (0 where the tokenizer has
/// none) and has -100 after that, which no loss counts.
Examples open_pair_examples(const DataOptions& options, const Tokenizer& tokenizer);

/// JSONL files of preferences, as DPO takes them: in each line an object with "chosen" and
/// "rejected" ("preferred" and "unpreferred" mean the same), and "prompt" or else a common
/// beginning of both. preferred_seq and unpreferred_seq [examples, longest] int64, each prompt and
/// answer and the end-of-text token; their masks preferred_seq_mask and unpreferred_seq_mask, and
/// prompt_mask, all [examples, longest] bool.
Examples open_preference_examples(const DataOptions& options, const Tokenizer& tokenizer);

/// CSV files of numbers, a row for each step in time: x [windows, seq_len + 1, columns] float32,
/// every stretch of rows. Those of the validation lie after those of training and share no row.
Examples open_series_examples(const DataOptions& options);

/// A folder with a folder of PNG or JPEG files for each class: img [images, channels, size, size]
/// float32 from 0 to 1, and labels [images] int64, the classes of data.path in the order of their
/// names. Those of data.val_path must be among them.
Examples open_image_examples(const DataOptions& options);

/// What `load` reads at data.path and data.val_path; without the latter the last data.val_fraction
/// of the examples is for validation. Throws InputError where a share would be empty.
Examples load_parts(const DataOptions& options,
                    const std::function<ExamplePart(const std::string& path)>& load);

/// Throws InputError where examples of training and validation are not of the same names, types and
/// sizes.
void require_alike(const Examples& examples, const DataOptions& options);

/// The type and sizes of an example, for messages.
std::string described_example(const at::Tensor& tensor);

/// Rows of tokens, of different lengths, as [rows, longest] int64, with `padding` after each.
at::Tensor padded(const std::vector<std::vector<int64_t>>& rows, int64_t padding);
/// Which places of `padded` hold tokens: [rows, longest] bool.
at::Tensor padding_mask(const std::vector<std::vector<int64_t>>& rows);

/// Tokens of each row.
std::vector<int64_t> lengths_of(const std::vector<std::vector<int64_t>>& rows);

/// The token that begins and ends a text that a model writes: the end-of-text token or, where the
/// tokenizer has none, 0.
int64_t boundary_token(const Tokenizer& tokenizer);

}  // namespace x_transformers
