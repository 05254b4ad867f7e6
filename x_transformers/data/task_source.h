// Tasks that are made up as a run goes, to see what a model can learn.
#pragma once

#include <memory>

#include "x_transformers/data/data_source.h"

namespace x_transformers {

/// data.task: the tensors that TaskOptions names, batch by batch, without end and without
/// repeating. Validation draws from numbers of its own.
std::shared_ptr<const DataSource> open_task_source(const DataOptions& options,
                                                   const WorldPlace& place);

}  // namespace x_transformers
