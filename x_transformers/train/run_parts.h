// From a run file to a trainer: the steps that are the same for every kind of model.
//
//     check_folder(run, directory, resume, context);
//     auto model = ...;                                      // of the kind's own
//     TrainerParts parts = make_parts(run, directory, resume, context);
//     use_data(parts, open_data_source(run.data, ...), data_files(run.data));
//     parts.loss = [&](const Batch& batch) { ... };
//     Trainer trainer(*model, run.train, std::move(parts));
//     capture_steps(trainer, *model);
//     return trainer.run();
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "x_transformers/core/generator_state.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/data_source.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/train/run_options.h"
#include "x_transformers/train/trainer.h"

namespace x_transformers {

/// Throws InputError where a run cannot start in `directory` or, with `resume`, go on there, or
/// where its files would be read as its own data; and where the token_folder of `context` can be no
/// folder. Changes nothing. Only rank 0 looks, as it alone writes.
void check_folder(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                  const RunContext& context);

/// What `build` returns; the random numbers that it draws do not count: training starts from the
/// random state from before, so that it is the same for a model that draws more of them.
template <class Build>
auto build_apart(const at::Device& device, Build build) {
  const RandomStateGuard guard(device);
  return build();
}

/// Parts that know the run's folder, its config.json and `context`.
TrainerParts make_parts(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                        const RunContext& context);

/// Has the parts train and validate on `data`, which is read from these files (data_files).
void use_data(TrainerParts& parts, const std::shared_ptr<const DataSource>& data,
              const std::vector<FileExtent>& files);

/// On CUDA makes the whole step of `trainer` a graph, unless train.cuda_graph is false or something
/// in `model` cannot be captured, of which the user is told, options spelled as `spelling` says.
void capture_steps(Trainer& trainer, Model& model, const Spelling& spelling = below("model"));

}  // namespace x_transformers
