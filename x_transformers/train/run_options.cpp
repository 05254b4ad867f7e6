#include "x_transformers/train/run_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/nearest_name.h"
#include "x_transformers/core/option_help.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/unknown_key.h"
#include "x_transformers/core/whole_number.h"
#include "x_transformers/generation/generate_options.h"
#include "x_transformers/io/known_models.h"
#include "x_transformers/io/weight_file.h"

namespace x_transformers {
namespace {

const std::vector<std::string> kParts{"model", "data", "train"};

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

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_index(const std::string& key) {
  return !key.empty() && key.size() < 10 && std::all_of(key.begin(), key.end(), is_digit);
}

std::string path_of(const RunOverride& value) {
  return value.assignment.substr(0, value.assignment.find('='));
}

/// What the user wrote of an override, as the beginning of a message.
OptionPath place_of(const RunOverride& value) {
  return value.option.empty() ? value.before + path_of(value) : value.option;
}

/// The place of `key` in `node`, made where an object lacks it.
Json& child(Json& node, const std::string& key) {
  if (node.is_null()) node = Json::object();
  if (node.is_object()) return node[key];
  require(node.is_array(), About{}, "'{}' is inside {}, expected an object or an array", key,
          detail::shown(node));
  expect(is_index(key) && std::stoul(key) < node.size(), About{}, key, "an index below {}",
         node.size());
  return node[std::stoul(key)];
}

/// The paths of all values within `node`, below `path`.
void add_paths(const Json& node, const std::string& path, std::vector<std::string>& paths) {
  if (!node.is_structured()) return;
  for (const auto& [key, value] : node.items()) {
    const auto inner = path + "." + key;
    paths.push_back(inner);
    add_paths(value, inner, paths);
  }
}

/// For a path that names no part of the run file: the option that its last key is likely to mean.
std::string hint_of_part(const Json& run, const std::string& key) {
  std::vector<std::string> places;
  for (const char* part : {"train", "data"}) {
    for (const auto& line : run_part_options(part))
      places.push_back(fmt::format("{}.{}", part, line.name));
  }
  if (run.is_object() && run.contains("model")) add_paths(run["model"], "model", places);
  return nearest_hint(key, places, places);
}

void set_value(Json& run, const RunOverride& value) {
  const auto& assignment = value.assignment;
  require(assignment.find('=') != std::string::npos, "expected PATH=VALUE, as in train.steps=100");
  const auto keys = split_path(path_of(value));
  if (keys.size() < 2 || !is_run_part(keys[0])) {
    Notice notice{{}, "the path must start with model., data. or train."};
    if (!is_run_part(keys[0]) && !keys.back().empty()) notice.hint = hint_of_part(run, keys.back());
    throw InputError(notice);
  }
  Json* node = &run;
  for (const std::string& key : keys) {
    require(!key.empty(), "the path has an empty part");
    node = &child(*node, key);
  }
  const std::string text = assignment.substr(assignment.find('=') + 1);
  try {
    *node = parse_json(text);
  } catch (const Json::exception&) {
    *node = text;
  }
}

/// The place of an override as rules know it: of model.layers.0.dim, model.layers[0].dim.
OptionPath option_path(const RunOverride& value) {
  OptionPath path;
  for (const auto& key : split_path(path_of(value)))
    path = is_index(key) && !path.empty() ? list_entry(path, std::stoul(key)) : path / key;
  return path;
}

/// attn.flash and attn_flash are one option.
std::string in_one_word(const OptionPath& path) {
  auto word = path.joined();
  std::replace(word.begin(), word.end(), '.', '_');
  return word;
}

/// Where the option at `path`, in the run file at `file` or without a file, was given by `value`;
/// an empty path: it was not.
OptionPath place_given(const OptionPath& path, const RunOverride& value, const OptionPath& file) {
  // What is said of a file that an option names begins with the option, as data.tokenizer: x.model:
  if (path.front() == path_of(value) + ":")
    return path.with_front(value.option.empty() ? value.before + path.front() : value.option + ":");
  const auto inner = path.common_with(file) > 0 ? path.without_front() : path;
  const auto given = option_path(value);
  const auto depth = given.names().size();
  const bool is_same = in_one_word(inner) == in_one_word(given);
  if (!is_same && given.common_with(inner) < depth) return {};
  if (value.option.empty()) return inner.with_front(value.before + inner.front());
  OptionPath place(value.option);
  for (size_t i = depth; i < inner.names().size(); ++i) place = place / inner.names()[i];
  return place;
}

/// `overrides`, and before them one for each object that they make on the way to a value: what is
/// said of it was given by them, and not by the file.
std::vector<RunOverride> with_new_objects(const Json& run,
                                          const std::vector<RunOverride>& overrides) {
  std::vector<RunOverride> all;
  for (const auto& value : overrides) {
    const auto keys = split_path(path_of(value));
    const Json* node = &run;
    std::string path;
    for (size_t i = 0; i + 1 < keys.size() && value.option.empty(); ++i) {
      const bool is_there = node != nullptr && node->is_object() && node->contains(keys[i]);
      path += (path.empty() ? "" : ".") + keys[i];
      node = is_there ? &(*node)[keys[i]] : nullptr;
      if (node != nullptr && !node->is_object()) break;  // an array
      if (node == nullptr && i > 0) all.push_back({path + "={}", "", value.before});
    }
  }
  all.insert(all.end(), overrides.begin(), overrides.end());
  return all;
}

/// Names options that were given outside the file as they were given, the last one where several
/// overrides gave them.
Spelling named_as_given(const OptionPath& file, std::vector<RunOverride> overrides) {
  const auto as_given = [file, overrides = std::move(overrides)](const OptionPath& path) {
    for (auto value = overrides.rbegin(); !path.empty() && value != overrides.rend(); ++value) {
      if (auto place = place_given(path, *value, file); !place.empty()) return place;
    }
    return path;
  };
  // Who gave an option outside the file writes the one that a hint speaks of there as well.
  const auto without_file = [file](const OptionPath& path) {
    return path.common_with(file) > 0 ? path.without_front() : path;
  };
  return [as_given, without_file](const Notice& notice) {
    auto told = respelled(notice, as_given);
    if (told.about != notice.about) told.hint = respelled({{}, told.hint}, without_file).text;
    return told;
  };
}

/// The options of the parts but for `part`, by their paths.
std::vector<OptionPath> options_elsewhere(const OptionPath& file, const std::string& part) {
  std::vector<OptionPath> paths;
  const auto add = [&](const std::string& other, const std::set<std::string>& names) {
    for (const auto& name : names) {
      if (other != part) paths.push_back(file / other / name);
    }
  };
  add("data", option_names(DataOptions{}));
  add("train", option_names(TrainOptions{}));
  return paths;
}

/// Whether `names` has options of which `key` is the prefix, as muon of muon_momentum.
bool is_prefix(const std::string& key, const std::set<std::string>& names) {
  const auto next = names.lower_bound(key + "_");
  return next != names.end() && next->starts_with(key + "_");
}

/// A part of the run file. The keys of the other parts are likely to be meant by unknown ones.
template <class PartOptions>
PartOptions read_part(const Json& run, const OptionPath& file, const std::string& part) {
  if (!run.contains(part)) return {};
  const auto names = option_names(PartOptions{});
  if (run[part].is_object()) {
    for (const auto& [key, value] : run[part].items()) {
      const bool is_object_of_options = value.is_object() && is_prefix(key, names);
      if (!names.count(key) && !is_object_of_options)
        throw detail::UnknownKey(file / part / key, {names.begin(), names.end()},
                                 options_elsewhere(file, part));
    }
  }
  return options_from_json<PartOptions>(run[part], file / part);
}

/// The options within the object `name`, as name.option.
template <class Inner>
std::vector<OptionHelp> help_within(const std::string& name) {
  auto lines = options_help<Inner>();
  for (auto& line : lines) line.name.insert(0, name + ".");
  return lines;
}

/// Visitor that lists fields for help, each object of options with what may stand in it.
class HelpWithObjects : public FieldVisitor<HelpWithObjects> {
 public:
  template <class T>
  void field(const FieldInfo& info, T& member) {
    writer_.field(info, member);
    if constexpr (Options<T>) {
      const auto within = help_within<T>(info.name);
      writer_.lines.insert(writer_.lines.end(), within.begin(), within.end());
    }
  }
  const std::vector<OptionHelp>& lines() const { return writer_.lines; }

 private:
  HelpWriter writer_;
};

std::vector<OptionHelp> data_help() {
  DataOptions options;
  HelpWithObjects help;
  options.fields(help);
  return help.lines();
}

/// For what describes a model and nothing else, where a run is expected.
void refuse_model_file(const Json& run, const OptionPath& file) {
  if (run.contains("model") || !run.contains("type")) return;
  Notice notice{at(file), "is a model file, as it has a type; expected a run file"};
  notice.hint = R"(write {"model": {...}, "data": {"path": FILE}} with what it holds as model)";
  throw InputError(notice);
}

/// parse_run_options of a run file whose whole numbers are integers.
RunOptions parse_integers(const Json& run, const std::string& where) {
  if (!run.is_object()) detail::wrong_type(where, "an object with model, data and train", run);
  const OptionPath file(where + ":");
  refuse_model_file(run, file);
  require_own_config(run, where);
  for (const auto& [key, value] : run.items()) {
    if (!is_run_part(key))
      throw detail::UnknownKey(file / key, kParts, options_elsewhere(file, ""));
  }
  RunOptions options;
  options.model_place = file / "model";
  require(run.contains("model"), at(options.model_place), "is missing");
  if (!run["model"].is_object()) detail::wrong_type(options.model_place, "an object", run["model"]);
  options.model = std::make_shared<const Json>(run["model"]);
  options.data = read_part<DataOptions>(run, file, "data");
  options.train = read_part<TrainOptions>(run, file, "train");
  options.has_learning_rate = run.contains("train") && run["train"].contains("learning_rate");
  spelled(below(file), [&] {
    validate(options.data);
    options.train = derived(options.train);
  });
  return options;
}

}  // namespace

bool is_run_part(const std::string& name) {
  return std::find(kParts.begin(), kParts.end(), name) != kParts.end();
}

void apply_override(Json& run, const RunOverride& value) {
  spelled(below(place_of(value)), [&] { set_value(run, value); });
}

RunOptions parse_run_options(const Json& run, const std::string& where) {
  return parse_integers(with_integers(run), where);
}

RunOptions read_run_file(const std::string& path, const std::vector<RunOverride>& overrides) {
  const auto kind = kind_of_weights(path);
  require(kind.empty(), at(path + ":"), "expected a run file (JSON), got {}", kind);
  Json run = read_json_file(path);
  if (!run.is_object()) detail::wrong_type(path, "an object with model, data and train", run);
  const Json given = run;
  for (const auto& value : overrides) apply_override(run, value);
  const auto spelling = named_as_given(path + ":", with_new_objects(given, overrides));
  auto options = spelled(spelling, [&] { return parse_run_options(run, path); });
  options.spelling = spelling;
  return options;
}

const std::vector<std::string>& run_parts() {
  static const std::vector<std::string> parts{"data", "generate", "train"};
  return parts;
}

std::vector<OptionHelp> run_part_options(const std::string& part) {
  if (part == "data") return data_help();
  if (part == "train") return options_help<TrainOptions>();
  if (part == "generate") return options_help<GenerateOptions>();
  detail::unknown({}, "part", part, run_parts());
}

std::string run_config_text(const RunOptions& run) {
  Json config = Json::object();
  config["model"] = *run.model;
  config["data"] = options_to_json(run.data);
  config["train"] = options_to_json(run.train);
  return config.dump(2) + "\n";
}

}  // namespace x_transformers
