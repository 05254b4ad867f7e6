// Examples of named tensors as a data source.
#pragma once

#include <memory>

#include "x_transformers/data/data_source.h"
#include "x_transformers/data/examples.h"

namespace x_transformers {

/// Entry i of the first dimension of every tensor is example i. A batch holds data.batch_size
/// examples of each tensor under its name, as the loss takes it; by default an epoch draws each
/// once. `tokenizer` is what made tokens of text, if anything did. Throws InputError where the
/// examples are not what context.loss_inputs asks for, for ids of large tensors when a batch is
/// drawn.
std::shared_ptr<const DataSource> make_example_source(
    Examples examples, const DataOptions& options, const DataContext& context,
    std::shared_ptr<const Tokenizer> tokenizer = nullptr);

}  // namespace x_transformers
