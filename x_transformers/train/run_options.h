// The run file of `x-transformers train`: {"model": {...}, "data": {...}, "train": {...}}.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "x_transformers/data/data_options.h"
#include "x_transformers/train/trainer_options.h"

namespace x_transformers {

struct RunOptions {
  /// The constructor call that `model` is, as given; never null.
  std::shared_ptr<const nlohmann::json> model;
  /// What messages call the model: the run file and "model".
  std::string model_name = "model";
  DataOptions data;
  TrainOptions train;
};

/// Sets one value of a run file by its path: "train.steps=100", "model.net.attn_layers.depth=6",
/// "data.path=book.txt". The value is read as JSON where it is JSON, else as a string; missing
/// objects on the way are made, and a number steps into an array. Throws InputError for a path that
/// does not start in model, data or train or leads through something else than an object or an
/// array.
void apply_override(nlohmann::json& run, const std::string& assignment);

/// Reads the three parts, checks those of `data` and `train`, and fills in derived values of
/// `train`. `where` names the file in messages. Throws InputError: no model, unknown keys (naming
/// the nearest), wrong types, impossible values.
RunOptions parse_run_options(const nlohmann::json& run, const std::string& where);

/// The file at `path` with `overrides` applied in order. Throws InputError as the two above do.
RunOptions read_run_file(const std::string& path, const std::vector<std::string>& overrides = {});

/// The text of config.json: every value of the run as it was used.
std::string run_config_text(const RunOptions& run);

}  // namespace x_transformers
