#include "x_transformers/compare/run_groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "x_transformers/core/dry_run.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/plot_curves.h"
#include "x_transformers/train/language_model.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

/// What changes nothing that a run learns.
const std::set<std::string>& bookkeeping() {
  static const std::set<std::string> names{
      "seed",       "log_every", "eval_every", "sample_every", "sample_prompt", "sample_length",
      "save_every", "keep_last", "save_best",  "tensorboard",  "plot",          "progress",
      "threads",    "device",    "cuda_graph", "steps",        "rank_timeout"};
  return names;
}

/// The options of data that may differ between runs that are compared.
const std::set<std::string>& of_batches() {
  static const std::set<std::string> names{"seed", "batch_size", "order"};
  return names;
}

struct KnownRun {
  fs::path directory;
  Json config;
  std::string fingerprint;  ///< of the training data
  RunNumbers numbers;
};

/// What the losses of a run are, by its configuration; empty: not known, as of a model of another
/// program.
std::string loss_unit_of(const Json& config) {
  try {
    const DryRun dry;
    return build_trainable_model(config.at("model"), "model")->loss_unit().name;
  } catch (const std::exception&) {
    return {};
  }
}

KnownRun read_run(const fs::path& directory) {
  const auto config = directory / checkpoint_file::kConfig;
  std::error_code error;
  require(fs::exists(config, error) && fs::exists(directory / checkpoint_file::kMetrics, error),
          at(directory.string() + ":"), "is no folder of a run: {} or {} is missing",
          checkpoint_file::kConfig, checkpoint_file::kMetrics);
  KnownRun run{directory, read_json_file(config.string()), "", read_run_numbers(directory)};
  const auto state = read_json_file((directory / checkpoint_file::kState).string());
  if (!state.is_object()) return run;
  if (state.contains("data_fingerprint")) run.fingerprint = state["data_fingerprint"].dump();
  // As it was, where the run file left it to the model.
  if (state.value("sample_length", 0) > 0 && run.config["data"].is_object())
    run.config["data"]["seq_len"] = state["sample_length"];
  return run;
}

/// The configuration of a run; null where it has none.
Json config_of(const fs::path& directory) {
  const auto path = directory / checkpoint_file::kConfig;
  std::error_code error;
  return fs::exists(path, error) ? read_json_file(path.string()) : Json();
}

/// What losses depend on beside model and training.
Json evaluation_of(const KnownRun& run) {
  Json data = run.config.value("data", Json::object());
  for (const auto& name : of_batches()) data.erase(name);
  if (!run.fingerprint.empty()) data.erase("path");  // the same data may have moved
  return data;
}

void require_comparable(const KnownRun& base, const KnownRun& run) {
  const auto one = evaluation_of(base), other = evaluation_of(run);
  for (const auto& [name, value] : one.items()) {
    const bool is_same = other.contains(name) && other[name] == value;
    require(is_same, at(run.directory.string() + ":"),
            "data.{} is {}, and {} in {}: losses of different data, tokenizers or evaluations "
            "cannot be compared",
            name, other.contains(name) ? other[name].dump() : "not given", value.dump(),
            base.directory.string());
  }
  require(base.fingerprint == run.fingerprint, at(run.directory.string() + ":"),
          "has other training data than {}: their losses cannot be compared",
          base.directory.string());
}

/// What a run has learned from, less its seeds.
Json learned_from(const KnownRun& run) {
  Json config{{"model", run.config.value("model", Json())},
              {"train", run.config.value("train", Json::object())},
              {"data", Json::object()}};
  for (const auto& name : bookkeeping()) config["train"].erase(name);
  // Steps as they were run.
  config["train"]["steps"] = run.numbers.val_loss.back().first;
  const Json data = run.config.value("data", Json::object());
  for (const char* name : {"batch_size", "order"}) {
    if (data.contains(name)) config["data"][name] = data[name];
  }
  return config;
}

/// Refuses a run that is one of the `known` again: by its folder, or as a copy or with the same
/// seed, which both leave the same losses. Counted twice it would pass for a second seed.
void require_another(const VariantResult& known, const KnownRun& run) {
  for (size_t i = 0; i < known.runs.size(); ++i) {
    const bool is_same =
        known.runs[i].val_loss == run.numbers.val_loss && known.runs[i].loss == run.numbers.loss;
    require(!is_same, at(run.directory.string() + ":"),
            "has the same losses as {}: it is the same run, or one with the same seed, and shows "
            "no noise; give it once",
            known.directories[i].string());
  }
}

/// The options that differ, by their paths.
Json differences(const Json& base, const Json& other) {
  const auto from = base.flatten(), to = other.flatten();
  Json found = Json::object();
  const auto path = [](std::string pointer) {
    std::replace(pointer.begin(), pointer.end(), '/', '.');
    return pointer.substr(1);
  };
  for (const auto& [key, value] : to.items()) {
    if (!from.contains(key) || from[key] != value) found[path(key)] = value;
  }
  for (const auto& [key, value] : from.items()) {
    if (!to.contains(key)) found[path(key)] = nullptr;
  }
  return found;
}

std::string name_of(const VariantResult& variant) {
  const auto& first = variant.directories.front();
  if (variant.directories.size() == 1) return first.string();
  if (variant.settings.empty()) return "runs like " + first.string();
  std::string name;
  for (const auto& [path, value] : variant.settings.items()) {
    const auto key = path.substr(path.rfind('.') + 1);
    name += (name.empty() ? "" : "+") +
            (value == true ? key : key + "=" + (value.is_null() ? "default" : value.dump()));
  }
  return name;
}

/// How fast a group ran, over how fast the base did, at whatever time that was.
std::optional<double> speed_beside(const VariantResult& base, const VariantResult& group) {
  const auto of_base = mean_speed(base), of_group = mean_speed(group);
  return of_base && of_group ? std::optional(*of_group / *of_base) : std::nullopt;
}

}  // namespace

ComparisonResult compare_runs(const std::vector<fs::path>& runs) {
  require(!runs.empty(), at("runs"), "at least one is needed");
  std::vector<VariantResult> groups;
  std::vector<Json> learned;
  std::optional<KnownRun> base;
  for (const auto& directory : runs) {
    auto run = read_run(directory);
    if (!base) base = run;
    require_comparable(*base, run);
    const auto what = learned_from(run);
    const auto found = std::find(learned.begin(), learned.end(), what);
    const auto at = static_cast<size_t>(found - learned.begin());
    if (found == learned.end()) {
      learned.push_back(what);
      groups.emplace_back();
      groups.back().settings = differences(learned.front(), what);
      groups.back().steps = std::llround(run.numbers.val_loss.back().first);
      groups.back().is_whole = true;
    }
    require_another(groups[at], run);
    groups[at].directories.push_back(run.directory);
    groups[at].runs.push_back(std::move(run.numbers));
  }
  ComparisonResult result;
  size_t most = 0;
  for (auto& group : groups) {
    group.name = name_of(group);
    most = std::max(most, group.runs.size());
  }
  for (auto& group : groups) group.relative_speed = speed_beside(groups.front(), group);
  result.base = std::move(groups.front());
  result.variants.assign(std::make_move_iterator(groups.begin() + 1),
                         std::make_move_iterator(groups.end()));
  result.seeds = static_cast<int64_t>(most);
  result.budget = "the steps that they ran";
  result.run_file = result.base.directories.front().string();
  result.base_run = base->config;
  result.loss_unit = loss_unit_of(base->config);
  result.is_complete = true;
  judge(result);
  return result;
}

CurvesPicture run_curves(const std::vector<fs::path>& runs, const RunCurvesOptions& options) {
  CurvesPicture picture;
  bool has_validation = !options.of_training;
  std::vector<RunNumbers> numbers;
  for (const auto& run : runs) {
    numbers.push_back(read_run_log(run));
    has_validation = has_validation && !numbers.back().val_loss.empty();
  }
  std::string unit = "targets";
  std::optional<std::string> loss_unit;  // of all; empty: they have no common one
  for (size_t i = 0; i < runs.size(); ++i) {
    auto curve = has_validation ? numbers[i].val_loss : numbers[i].loss;
    require(!curve.empty(), at(runs[i].string() + ":"), "has no loss to draw");
    if (options.smoothing > 0 && !has_validation)
      curve = moving_average(curve, options.smoothing * static_cast<double>(curve.size()));
    picture.curves.push_back({runs[i].string(), over(curve, numbers[i], options.x)});
    unit = numbers[i].target_unit;
    const auto own = loss_unit_of(config_of(runs[i]));
    loss_unit = loss_unit.value_or(own) == own ? own : std::string();
  }
  picture.y_label = loss_label(has_validation ? "validation loss" : "training loss",
                               loss_unit.value_or(std::string()));
  picture.title = has_validation ? "Validation loss" : "Training loss";
  if (options.smoothing > 0 && !has_validation) picture.title += ", moving average";
  picture.x_label = x_label_of(options.x, unit);
  return picture;
}

}  // namespace x_transformers
