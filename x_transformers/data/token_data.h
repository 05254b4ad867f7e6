// What a run on text or tokens trains and validates on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/data/data_options.h"
#include "x_transformers/data/token_dataset.h"
#include "x_transformers/data/tokenizer.h"

namespace x_transformers {

/// What a run trains on.
struct TokenData {
  TokenDataset train;
  std::optional<TokenDataset> validation;
  /// Null for token files, unless `tokenizer` names a .model file.
  std::shared_ptr<const Tokenizer> tokenizer;
  /// Bytes of text a token of the validation part (of all, where there is none) stands for; turns
  /// nats per token into bits per byte. Absent where `tokenizer` is null.
  std::optional<double> bytes_per_token;
  /// What the user should know of them.
  std::vector<Notice> warnings = {};
};

/// Opens the data of a run for a model of `num_tokens` tokens. Throws InputError naming the file:
/// missing, empty, unreadable, not a regular file, no token file, tokens outside the vocabulary,
/// invalid UTF-8 for sentencepiece, shorter than a sequence. Text that sentencepiece encodes is
/// kept in `token_folder`, for the next time (token_cache.h); empty: it is not.
TokenData open_data(const DataOptions& options, int64_t num_tokens,
                    const std::filesystem::path& token_folder = {});

}  // namespace x_transformers
