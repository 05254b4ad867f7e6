// From a run file to a trained model, of any type that has a loss.
#pragma once

#include <filesystem>

#include "x_transformers/train/run_options.h"
#include "x_transformers/train/trainer.h"

namespace x_transformers {

/// Trains the model of a run and leaves the run's folder (checkpoint.h) in `directory`. A model
/// that learns from tokens reads text or token files; every model reads examples of its loss's
/// arguments (data.format "tensors"). With `resume` goes on from the folder's latest checkpoint,
/// with the vocabulary that is in it. Random numbers come from the default generators as they
/// stand, and threads and precision are those of the process: call set_up_process before
/// (process.h). Throws as Trainer does, and InputError when data.tokenizer names another vocabulary
/// than that of the checkpoint.
TrainResult train_model(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                        const RunContext& context = {});

}  // namespace x_transformers
