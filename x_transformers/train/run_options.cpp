#include "x_transformers/train/run_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace {

const std::vector<std::string> kParts{"model", "data", "train"};

bool is_part(const std::string& key) {
  return std::find(kParts.begin(), kParts.end(), key) != kParts.end();
}

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> keys(1);
  for (const char c : path) {
    if (c == '.') {
      keys.emplace_back();
    } else {
      keys.back() += c;
    }
  }
  return keys;
}

/// The place of `key` in `node`, made where an object lacks it. An assignment may stand for an
/// option of its own, as --steps, so that messages about the file do not speak of --set.
Json& child(Json& node, const std::string& key, const std::string& assignment) {
  if (node.is_null()) node = Json::object();
  if (node.is_object()) return node[key];
  require(node.is_array(),
          fmt::format("cannot set {}: '{}' is inside {}, expected an object or an array",
                      assignment, key, detail::shown(node)));
  const bool is_index =
      !key.empty() && key.size() < 10 && std::all_of(key.begin(), key.end(), ::isdigit);
  require(is_index && std::stoul(key) < node.size(),
          fmt::format("cannot set {}: expected an index below {}, got '{}'", assignment,
                      node.size(), key));
  return node[std::stoul(key)];
}

}  // namespace

void apply_override(Json& run, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  require(equals != std::string::npos,
          fmt::format("--set {}: expected PATH=VALUE, as in train.steps=100", assignment));
  const auto keys = split_path(assignment.substr(0, equals));
  require(keys.size() >= 2 && is_part(keys[0]),
          fmt::format("--set {}: the path must start with model., data. or train.", assignment));
  const std::string text = assignment.substr(equals + 1);
  Json* node = &run;
  for (const std::string& key : keys) {
    require(!key.empty(), fmt::format("--set {}: the path has an empty part", assignment));
    node = &child(*node, key, assignment);
  }
  try {
    *node = parse_json(text);
  } catch (const Json::exception&) {
    *node = text;
  } catch (const InputError& error) {
    throw InputError(fmt::format("--set {}: {}", assignment.substr(0, equals), error.what()));
  }
}

RunOptions parse_run_options(const Json& run, const std::string& where) {
  if (!run.is_object()) detail::wrong_type(where, "an object with model, data and train", run);
  for (const auto& [key, value] : run.items()) {
    require(is_part(key),
            fmt::format("{}: unknown key '{}'{}", where, key, detail::nearest_hint(key, kParts)));
  }
  require(run.contains("model"), fmt::format("{}: 'model' is missing", where));
  if (!run["model"].is_object()) detail::wrong_type(where + ": model", "an object", run["model"]);
  const Json empty = Json::object();
  const auto part = [&](const char* name) -> const Json& {
    return run.contains(name) ? run[name] : empty;
  };
  RunOptions options;
  options.model = std::make_shared<const Json>(run["model"]);
  options.model_name = where + ": model";
  options.data = options_from_json<DataOptions>(part("data"), where + ": data");
  options.train = options_from_json<TrainOptions>(part("train"), where + ": train");
  spelled(below(where + ":"), [&] {
    validate(options.data);
    options.train = derived(options.train);
  });
  return options;
}

RunOptions read_run_file(const std::string& path, const std::vector<std::string>& overrides) {
  Json run = read_json_file(path);
  if (!run.is_object()) detail::wrong_type(path, "an object with model, data and train", run);
  for (const std::string& assignment : overrides) apply_override(run, assignment);
  return parse_run_options(run, path);
}

std::string run_config_text(const RunOptions& run) {
  Json config = Json::object();
  config["model"] = *run.model;
  config["data"] = options_to_json(run.data);
  config["train"] = options_to_json(run.train);
  return config.dump(2) + "\n";
}

}  // namespace x_transformers
