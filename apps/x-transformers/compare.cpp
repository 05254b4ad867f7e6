// compare: which options help, on one's own data.
#include <ATen/DeviceAccelerator.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/child_process.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/comparison_files.h"
#include "apps/x-transformers/gpu_shares.h"
#include "apps/x-transformers/stop_signals.h"
#include "x_transformers/compare/comparison.h"
#include "x_transformers/compare/comparison_table.h"
#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {

namespace {

namespace fs = std::filesystem;

struct CompareCommand {
  std::string config, sweep, budget, equal, data, device, out = "runs/compare";
  std::vector<std::string> tries, presets, set;
  std::optional<int64_t> seeds;
  int64_t jobs = 1;
  bool resume = false, stop_early = false, json = false;
};

void say(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

std::vector<RunOverride> overrides_of(const CompareCommand& command) {
  return run_overrides(command.set, run_flags(command.data, command.device));
}

ComparisonOptions comparison_of(const CompareCommand& command) {
  ComparisonOptions options;
  options.run_file = command.config;
  options.base = read_json_file(command.config);
  for (const auto& value : overrides_of(command)) apply_override(options.base, value);
  const OptionPlaces places(options.base);
  const auto add = [&](std::vector<Variant> variants) {
    for (auto& variant : variants) options.variants.push_back(std::move(variant));
  };
  for (const auto& text : command.tries) add(parse_variants(text, places, "--try"));
  for (const auto& name : command.presets) add(preset_variants(name, options.base, places));
  std::optional<int64_t> seeds = command.seeds;
  if (!command.sweep.empty()) {
    auto sweep = read_sweep(command.sweep, options.base, places);
    if (!seeds) seeds = sweep.seeds;
    add(std::move(sweep.variants));
  }
  require(!options.variants.empty(), at("compare"), "nothing to try: give {}, {} ({}) or {}",
          option("--try"), option("--preset"), fmt::format("{}", fmt::join(preset_names(), ", ")),
          option("--sweep"));
  options.seeds = seeds.value_or(3);
  options.budget = parse_budget(command.budget);
  options.equal_to = parse_equal(command.equal);
  options.out = command.out;
  options.jobs = command.jobs;
  options.stop_early = command.stop_early;
  options.resume = command.resume;
  return options;
}

/// The runs, each a process of its own. One after the other, the next one starts while a run
/// trains, where that takes no processor from it: loading LibTorch and making a CUDA context have
/// passed when its turn comes. Side by side, each has a GPU of its own where there are several.
class Runs {
 public:
  explicit Runs(const ComparisonOptions& options) {
    const auto train = options.base.value("train", Json::object());
    device_ = train.value("device", "cpu");
    const bool has_threads = train.contains("threads") && train["threads"].is_number_integer();
    const bool has_room = device_ != "cpu" || (has_threads && train["threads"] < usable_cpus());
    starts_ahead_ = options.jobs == 1 && has_room;
    if (options.jobs == 1 || device_ != "cuda") return;
    open_device(device_, OptionPath("train") / "device");
    gpus_.emplace(at::accelerator::deviceCount(), std::getenv("CUDA_VISIBLE_DEVICES"));
  }

  ChildExit run(const std::vector<std::string>& arguments, const fs::path& log) {
    if (gpus_) {
      const GpuShares::Share gpu(*gpus_);
      return run_as_child(arguments, log, gpu.visible());
    }
    if (!starts_ahead_) return run_as_child(arguments, log);
    const auto ready = std::exchange(next_, std::make_unique<WaitingChild>(device_));
    auto exit = ready ? ready->run(arguments, log) : std::nullopt;
    return exit ? std::move(*exit) : run_as_child(arguments, log);
  }

 private:
  std::string device_;
  bool starts_ahead_ = false;
  std::unique_ptr<WaitingChild> next_;
  std::optional<GpuShares> gpus_;
};

/// `tokens` is the folder in which all runs keep the tokens of their text, which is encoded once.
RunReturn train_as_child(Runs& runs, const RunTask& task, const fs::path& tokens) {
  const fs::path log = task.directory.string() + ".log";
  std::vector<std::string> arguments{"train",
                                     "--config",
                                     task.run_file.string(),
                                     "--out",
                                     task.directory.string(),
                                     "--token-folder",
                                     tokens.string(),
                                     "--resume",
                                     "--json"};
  if (task.until) {
    arguments.emplace_back("--until");
    arguments.push_back(std::to_string(*task.until));
  }
  const auto child = runs.run(arguments, log);
  if (child.was_stopped) return {RunEnd::kStopped};
  if (child.signal != 0 || child.status != kDone)
    return {RunEnd::kFailed, failure_of(child, log), child.status == kWrongUse};
  const auto result = Json::parse(child.output, nullptr, /*allow_exceptions=*/false);
  if (!result.is_object()) return {RunEnd::kStopped};
  if (result.value("reason", "") == "finished") return {};
  const bool is_paused = task.until && result.value("step", int64_t{0}) >= *task.until;
  return {is_paused ? RunEnd::kPaused : RunEnd::kStopped};
}

/// How long a token takes to decode, for one sequence, as `bench generate` measures it.
std::optional<double> decoding_as_child(const fs::path& run_file) {
  constexpr int64_t kMaxTokens = 64;
  const auto run = read_json_file(run_file.string());
  const auto& data = run.at("data");
  if (!data.contains("seq_len") || !data["seq_len"].is_number_integer()) return std::nullopt;
  const auto length = data["seq_len"].get<int64_t>();
  const auto prompt = std::max<int64_t>(1, length / 4),
             tokens = std::min(kMaxTokens, length - prompt);
  if (tokens < 1) return std::nullopt;
  const auto& train = run.at("train");
  std::vector<std::string> arguments{"bench",       "generate",
                                     "--config",    run_file.string(),
                                     "--batch",     "1",
                                     "--prompt",    std::to_string(prompt),
                                     "--tokens",    std::to_string(tokens),
                                     "--device",    train.value("device", "cpu"),
                                     "--precision", train.value("precision", "fp32")};
  if (train.contains("threads") && train["threads"].is_number_integer()) {
    arguments.emplace_back("--threads");
    arguments.push_back(train["threads"].dump());
  }
  const auto child = run_as_child(arguments, run_file.parent_path() / "decoding.log");
  if (child.was_stopped || child.status != kDone || child.signal != 0) return std::nullopt;
  const auto result = Json::parse(child.output, nullptr, /*allow_exceptions=*/false);
  if (!result.is_object() || !result.contains("ms_per_token")) return std::nullopt;
  return result["ms_per_token"].get<double>();
}

std::string question_of(const ComparisonResult& result) {
  const auto data = result.base_run.value("data", Json::object());
  const auto& variants = result.variants;
  return fmt::format("{} better than {} on {}, with {} and {}?",
                     variants.size() == 1 ? fmt::format("Is {}", variants.front().name)
                                          : fmt::format("Which of {} variants is", variants.size()),
                     result.run_file, data.value("path", "its data"),
                     result.equal_to == EqualTo::kNothing
                         ? result.budget
                         : result.budget + ", as many " + words_of(result.equal_to),
                     how_many(result.seeds, "seed"));
}

void run_compare(const CompareCommand& command) {
  // What is wrong with the run file, or the model in it, is said of where it was given.
  const auto spelling = read_run_file(command.config, overrides_of(command)).spelling;
  const auto options = spelled(spelling, [&] { return comparison_of(command); });
  tell_other_data(command.config, command.data);
  const StopSignals signals;
  ComparisonParts parts;
  Runs runs(options);
  parts.train = [&runs, tokens = options.out / "runs" / ".tokens"](const RunTask& task) {
    return train_as_child(runs, task, tokens);
  };
  parts.decoding_ms = decoding_as_child;
  parts.message = say;
  const auto write = [&](const ComparisonResult& known) { write_results(known, options.out); };
  const auto result = spelled(spelling, [&] { return run_comparison(options, parts, write); });
  write_report(result, question_of(result), options.out);
  if (command.json) {
    fmt::print("{}\n", results_json(result).dump());
  } else {
    fmt::print("{}", aligned(terminal_table(results_table(result))));
    say(fmt::format("{}: results.tsv, results.json and report.html", options.out.string()));
  }
}

}  // namespace

void add_compare(CLI::App& app) {
  auto* command = app.add_subcommand(
      "compare", "which options help: train variants of a run beside it, with several seeds");
  const auto options = std::make_shared<CompareCommand>();
  command->add_option("run,--config", options->config, "run file of the base");
  command
      ->add_option(
          "--try", options->tries,
          "variants, as in rotary_pos_emb=false,attn_qk_norm,ff_glu+ff_swish,depth=[2,4]: "
          "separated by commas, + joins options, an option without a value is switched on, "
          "brackets span values")
      ->allow_extra_args(false);
  command
      ->add_option("--preset", options->presets,
                   fmt::format("lists of variants: {}", fmt::join(preset_names(), ", ")))
      ->allow_extra_args(false)
      ->delimiter(',');
  command->add_option("--sweep", options->sweep,
                      "file of variants: {\"method\": list, grid, random or one-at-a-time, "
                      "\"parameters\": ..., \"run_cap\", \"seeds\"}");
  command->add_option("--seeds", options->seeds, "runs of the base and of each variant; default: 3")
      ->check(integer_from(1));
  command->add_option(
      "--budget", options->budget,
      "of each run: 500steps, 20Mtok, 10min or 2PFLOP; default: the run file's steps");
  command->add_option("--equal", options->equal,
                      "parameters or compute: give each variant the width by which it has as many "
                      "parameters, or FLOPs per token, as the base");
  command->add_option("--data", options->data, "text or token file, or folder (data.path)");
  command->add_option("--device", options->device, "cpu or cuda (train.device)");
  command->add_option("--set", options->set,
                      "changes a value of the run file, for base and variants");
  command->add_option("--out", options->out, "folder of the comparison");
  command->add_flag("--resume", options->resume, "go on with the comparison in the folder");
  command->add_option("--jobs", options->jobs, "runs side by side, which share the processors")
      ->check(integer_from(1, 1024));
  command->add_flag("--stop-early", options->stop_early,
                    "give up variants that can no longer win: at a quarter and half of their first "
                    "run, and after two seeds or more");
  command->add_flag("--json", options->json, "print the result as JSON");
  command->callback([options] {
    std::signal(SIGPIPE, SIG_IGN);
    require(!options->config.empty(), at("run"), "is needed, the run file of the base");
    const auto flags =
        as_flags({"preset", "seeds", "budget", "equal", "jobs", "out", "resume", "stop_early"});
    spelled(flags, [&] { run_compare(*options); });
  });
}

}  // namespace x_transformers
