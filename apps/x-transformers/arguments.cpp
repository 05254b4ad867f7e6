#include "apps/x-transformers/arguments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/whole_number.h"
#include "x_transformers/io/known_models.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/train/graph_step.h"
#include "x_transformers/train/trainer_options.h"

namespace x_transformers {

namespace {

enum class Reading { whole, out_of_range, no_number };

/// All of `text` as a number.
template <class T>
Reading read_number(std::string_view text, T& value) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return Reading::out_of_range;
  const bool is_whole = error == std::errc() && end == text.data() + text.size();
  return is_whole ? Reading::whole : Reading::no_number;
}

std::string refuse(const std::string& expected, const std::string& given) {
  return fmt::format("expected {}, got {}", expected, given.empty() ? "''" : given);
}

/// Decimal, as a reader of the command line takes it: CLI11 would read 010 as eight.
std::string plain_integer(std::string& text) {
  int64_t value = 0;
  const auto reading = read_number(text, value);
  if (reading == Reading::out_of_range) return refuse("an integer of at most 64 bits", text);
  if (reading == Reading::no_number) {
    double number = 0;
    const bool is_number = read_number(text, number) == Reading::whole;
    const auto whole = is_number ? whole_number(number) : std::nullopt;
    if (!whole) return refuse("an integer", text);
    value = *whole;
  }
  text = std::to_string(value);
  return "";
}

std::string plain_number(std::string& text) {
  double value = 0;
  const auto reading = read_number(text, value);
  if (reading == Reading::out_of_range) return refuse("a number that fits in 64 bits", text);
  return reading == Reading::whole ? "" : refuse("a number", text);
}

}  // namespace

CLI::Validator integer_from(int64_t least, int64_t most) {
  // A maximum that no one has in mind is named only where it is exceeded.
  const bool is_open = most >= kMaxSize;
  const auto expected = is_open ? fmt::format("an integer of at least {}", least)
                                : fmt::format("an integer from {} to {}", least, most);
  return {[=](std::string& text) {
            int64_t value = 0;
            const bool is_whole = read_number(text, value) == Reading::whole;
            if (is_whole && value >= least && value <= most) return std::string();
            const bool exceeds = is_open && is_whole && value > most;
            return refuse(exceeds ? fmt::format("an integer of at most {}", most) : expected, text);
          },
          ""};
}

CLI::Validator one_of(const std::vector<std::string>& words) {
  return {[=](std::string& text) {
            const bool is_one = std::find(words.begin(), words.end(), text) != words.end();
            return is_one ? std::string()
                          : refuse(fmt::format("{}", fmt::join(words, " or ")), text);
          },
          fmt::format("{{{}}}", fmt::join(words, ","))};
}

CLI::Validator number_that(std::function<bool(double)> holds, const std::string& expected) {
  return {[=](std::string& text) {
            double value = 0;
            const bool fits = read_number(text, value) == Reading::whole && holds(value);
            return fits ? std::string() : refuse(expected, text);
          },
          ""};
}

CLI::Validator number_from(double least, double most) {
  return number_that([=](double value) { return value >= least && value <= most; },
                     fmt::format("a number from {} to {}", least, most));
}

void refuse_what_is_no_number(CLI::App& app) {
  for (auto* option : app.get_options()) {
    const auto type = option->get_type_name();
    if (type.starts_with("INT")) option->transform(CLI::Validator(plain_integer, ""));
    if (type.starts_with("FLOAT")) option->transform(CLI::Validator(plain_number, ""));
  }
  for (auto* command : app.get_subcommands([](CLI::App*) { return true; }))
    refuse_what_is_no_number(*command);
}

void add_threads_option(CLI::App& command, int64_t& threads) {
  command
      .add_option("--threads", threads,
                  "CPU threads at most; 0: as many as LibTorch takes. Never more than the "
                  "processors that may be used")
      ->check(integer_from(0, kMaxThreads));
}

void use_most_threads(int64_t threads) {
  use_threads(threads > 0 ? std::optional(threads) : std::nullopt);
}

void require_output(const std::string& option, const std::string& path,
                    const std::vector<std::string>& inputs) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  expect(!path.empty(), at(option), path, "the name of a file to write");
  expect(!fs::is_directory(path, ignored), at(option), Words{"the folder " + path},
         "a file to write");
  const auto folder = fs::path(path).parent_path();
  expect(folder.empty() || fs::is_directory(folder, ignored), at(option), Words{path},
         "a file in a folder that exists");
  if (!fs::is_regular_file(path, ignored)) return;
  for (const auto& input : inputs) {
    expect(input.empty() || !fs::equivalent(path, input, ignored), at(option), Words{path},
           "another file than those that are read");
  }
}

void require_safetensors_name(const std::string& option, const std::string& path) {
  static const std::set<std::string> others{".pt",  ".pth", ".ckpt", ".bin",  ".pkl",
                                            ".npy", ".npz", ".h5",   ".hdf5", ".json",
                                            ".csv", ".txt", ".onnx", ".gguf"};
  const auto ending = std::filesystem::path(path).extension().string();
  expect(!others.contains(ending), at(option), path,
         "a name that ends in .safetensors, which is what is written");
}

namespace {
std::string standard_input_refusal;
}
void refuse_standard_input(const std::string& reason) { standard_input_refusal = reason; }

std::string read_text(const std::string& path) {
  if (path == kStandardInput) {
    require(standard_input_refusal.empty(), at("-"), "{}", standard_input_refusal);
    std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
    if (text.ends_with('\n')) text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
    return text;
  }
  std::ifstream file(path, std::ios::binary);
  if (!file.good())
    throw InputError(caused(at(path + ":"), "cannot be read", cause_of_errno(errno)));
  require(!std::filesystem::is_directory(path), at(path + ":"), "is a folder, not a text");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Json read_model_file(const std::string& path) {
  namespace fs = std::filesystem;
  const auto kind = kind_of_weights(path);
  expect(kind.empty(), at(path + ":"), Words{kind},
         "a model file or a run file (JSON), or the folder of a run");
  std::error_code ignored;
  const auto file = fs::is_directory(path, ignored) ? path + "/config.json" : path;
  auto config = with_integers(read_json_file(file));
  require_own_config(config, file);
  // Wrappers of models have a model too, but also a type.
  const bool run_file = config.contains("model") && !config.contains("type");
  return run_file ? Json(config["model"]) : config;
}

std::vector<CLI::Option*> add_weight_options(CLI::App& command, WeightSelection& selection) {
  return {
      command.add_option("--key", selection.key,
                         "which weights of the file: a dict in it (ema.model), or how their names "
                         "begin"),
      command
          .add_option("--strip", selection.strip,
                      "what to take off the beginning of names; may be given several times")
          ->allow_extra_args(false),
      command
          .add_option("--rename", selection.rename,
                      "REGEX=NEW, replaced in names; may be given several times")
          ->allow_extra_args(false),
      command.add_option(
          "--xt-compat", selection.xt_compat,
          "release of x-transformers that trained them, where the file does not say"),
  };
}

Spelling as_flags(std::set<std::string> names) {
  return spelled_by([names = std::move(names)](const OptionPath& path) -> OptionPath {
    if (path.empty() || !names.count(path.front())) return path;
    auto flag = "--" + path.front();
    std::replace(flag.begin(), flag.end(), '_', '-');
    return path.with_front(flag);
  });
}

namespace {

std::vector<std::string>& run_arguments() {
  static std::vector<std::string> arguments;
  return arguments;
}

}  // namespace

void set_run_arguments(const std::vector<std::string>& arguments) { run_arguments() = arguments; }

std::vector<std::string> command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> all(1);
  std::getline(file, all.front(), '\0');
  all.insert(all.end(), run_arguments().begin(), run_arguments().end());
  return all;
}

namespace {

std::string shell_quoted(const std::string& text) {
  const std::string plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=+,:@%";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "'\\''" : std::string(1, c);
  return result + "'";
}

/// PATH of PATH=VALUE.
std::string path_of(const std::string& assignment) {
  return assignment.substr(0, assignment.find('='));
}

}  // namespace

std::string as_shell_line(const std::vector<std::string>& arguments) {
  std::string line;
  for (const auto& argument : arguments) line += (line.empty() ? "" : " ") + shell_quoted(argument);
  return line;
}

std::vector<RunOverride> run_flags(const std::string& data, const std::string& device) {
  std::vector<RunOverride> flags;
  if (!data.empty()) flags.push_back({"data.path=" + Json(data).dump(), "--data"});
  if (!device.empty()) flags.push_back({"train.device=" + Json(device).dump(), "--device"});
  return flags;
}

std::vector<RunOverride> run_overrides(const std::vector<std::string>& set,
                                       const std::vector<RunOverride>& flags) {
  std::vector<RunOverride> all;
  for (const auto& assignment : set) {
    for (const auto& flag : flags)
      require(path_of(flag.assignment) != path_of(assignment), at("--set " + path_of(assignment)),
              "is given by {} too: give one of the two", flag.option);
    all.push_back({assignment, "", "--set "});
  }
  all.insert(all.end(), flags.begin(), flags.end());
  return all;
}

void tell_other_data(const std::string& path, const std::string& data) {
  if (data.empty()) return;
  const auto run = read_json_file(path);
  const auto own = run.value(Json::json_pointer("/data/path"), Json());
  if (own.is_string() && own != "" && own != data)
    std::fprintf(stderr, "x-transformers: --data %s is read in place of %s, the data.path of %s\n",
                 data.c_str(), own.get<std::string>().c_str(), path.c_str());
}

Spelling hints_by_set(const std::string& run_file) {
  // Within the run file; empty: elsewhere.
  const auto place_of = [file = run_file + ":"](const OptionPath& path) -> OptionPath {
    if (path.empty()) return path;
    const auto inner = path.front() == file ? path.without_front() : path;
    return inner.names().size() > 1 && is_run_part(inner.front()) ? inner : OptionPath();
  };
  return [place_of](const Notice& notice) {
    // Beside an option of the same part, as one that is misspelt, the name alone is enough.
    const auto is_of_part = [&](const std::string& part) {
      const auto& about = notice.about.options;
      return std::any_of(about.begin(), about.end(), [&](const OptionPath& path) {
        const auto place = place_of(path);
        return path.common_with("--set " + part) > 0 || (!place.empty() && place.front() == part);
      });
    };
    auto told = notice;
    told.hint = respelled({{}, told.hint}, [&](const OptionPath& path) {
                  const auto place = place_of(path);
                  if (place.empty() || is_of_part(place.front())) return path;
                  return place.with_front("--set " + place.front());
                }).text;
    return told;
  };
}

Spelling with_eager_hint() {
  return [](const Notice& notice) {
    auto told = notice;
    const auto& about = notice.about.options;
    if (!about.empty() && about.front() == OptionPath(kTrainingStep))
      told.hint = "run with --no-cuda-graph";
    return told;
  };
}

Spelling weight_arguments() {
  return spelled_by([](const OptionPath& path) -> OptionPath {
    static const std::map<std::string, std::string> arguments{{"key", "--key KEY"},
                                                              {"strip", "--strip"},
                                                              {"rename", "--rename"},
                                                              {"xt_compat", "--xt-compat"}};
    // What is said of a file names options within it.
    const auto& names = path.names();
    const bool is_of_file = names.size() == 2 && names.front().ends_with(':');
    const auto found =
        names.size() == 1 || is_of_file ? arguments.find(names.back()) : arguments.end();
    return found == arguments.end() ? path : OptionPath(found->second);
  });
}

}  // namespace x_transformers
