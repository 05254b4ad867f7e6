// The run file of `x-transformers train`: {"model": {...}, "data": {...}, "train": {...}}.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "x_transformers/core/spelling.h"
#include "x_transformers/data/data_options.h"
#include "x_transformers/train/trainer_options.h"

namespace x_transformers {

struct OptionHelp;

struct RunOptions {
  /// The constructor call that `model` is, as given; never null.
  std::shared_ptr<const nlohmann::json> model;
  /// Where messages say that the model stands: in the run file, below "model".
  OptionPath model_place = "model";
  DataOptions data;
  TrainOptions train;
  bool has_learning_rate = false;  ///< `train` says one
  /// Names options that were given outside the run file as they were given there.
  Spelling spelling = [](const Notice& notice) { return notice; };
};

/// A value that is given outside the run file.
struct RunOverride {
  /// PATH=VALUE: "train.steps=100", "model.net.attn_layers.depth=6", "data.path=book.txt".
  std::string assignment;
  /// What stands for PATH where it was given, as an option of a program; empty: PATH itself.
  std::string option = {};
  /// What stands before PATH there.
  std::string before = {};
};

/// Whether a run file has a part of that name: model, data or train.
bool is_run_part(const std::string& name);

/// Sets one value of a run file. It is read as JSON where it is JSON, else as a string; missing
/// objects on the way are made, and a number steps into an array. Throws InputError for a path that
/// does not start in model, data or train or leads through something else than an object or an
/// array.
void apply_override(nlohmann::json& run, const RunOverride& value);

/// Reads the three parts, checks those of `data` and `train`, and fills in derived values of
/// `train`. `where` names the file in messages. Throws InputError: no model, unknown keys (naming
/// the nearest), wrong types, impossible values.
RunOptions parse_run_options(const nlohmann::json& run, const std::string& where);

/// The file at `path` with `overrides` applied in order. Throws InputError as the two above do;
/// where a value was given outside the file, it names that place.
RunOptions read_run_file(const std::string& path, const std::vector<RunOverride>& overrides = {});

/// A part of run files, data or train, or what `generate` takes as kwargs: its options.
std::vector<OptionHelp> run_part_options(const std::string& part);
/// The parts that run_part_options knows.
const std::vector<std::string>& run_parts();

/// The text of config.json: every value of the run as it was used.
std::string run_config_text(const RunOptions& run);

}  // namespace x_transformers
