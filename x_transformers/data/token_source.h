// Text and token files as a data source.
#pragma once

#include <memory>

#include "x_transformers/data/data_source.h"

namespace x_transformers {

/// What batches call their tokens.
inline constexpr const char* kTokenTensor = "x";

/// What batches with data.pack documents call the number of each token's document in its row, -1
/// after the last, and what the model's loss takes it as.
inline constexpr const char* kDocumentTensor = "documents";

/// Batches {"x": int64 `[batch, seq_len + 1]`}: each token but the first of a sequence is the
/// target of those before it; with data.pack documents {"documents": int64 `[batch, seq_len + 1]`}
/// beside, and of those before it in its document. Throws InputError as open_data does
/// (token_data.h).
std::shared_ptr<const DataSource> open_token_source(const DataOptions& options,
                                                    const DataContext& context);

}  // namespace x_transformers
