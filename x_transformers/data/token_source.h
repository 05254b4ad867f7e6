// Text and token files as a data source.
#pragma once

#include <memory>

#include "x_transformers/data/data_source.h"

namespace x_transformers {

/// What batches call their tokens.
inline constexpr const char* kTokenTensor = "x";

/// Batches {"x": int64 `[batch, seq_len + 1]`}: each token but the first of a sequence is the
/// target of those before it. Throws InputError as open_data does (token_data.h).
std::shared_ptr<const DataSource> open_token_source(const DataOptions& options,
                                                    const DataContext& context);

}  // namespace x_transformers
