// train: a run file, a folder, and what the command line changes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/launcher.h"
#include "apps/x-transformers/rank.h"
#include "apps/x-transformers/stop_signals.h"
#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/distributed/device_sums.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/resume_point.h"
#include "x_transformers/train/process.h"
#include "x_transformers/train/random_states.h"
#include "x_transformers/train/train_model.h"

namespace x_transformers {

namespace {

struct TrainCommand {
  std::string config, data, out = "runs/latest", device;
  std::vector<std::string> set;
  RunContext context;
  LaunchOptions launch;
  bool resume = false, skip_nonfinite = false, no_cuda_graph = false, json = false;
  bool has_gpu = false;  ///< --gpus has started this process
  std::optional<int64_t> steps;
};

std::vector<RunOverride> overrides(const TrainCommand& command) {
  auto flags = run_flags(command.data, command.device);
  if (command.has_gpu) flags.push_back({"train.device=cuda", "--gpus"});
  if (command.steps) flags.push_back({"train.steps=" + std::to_string(*command.steps), "--steps"});
  if (command.skip_nonfinite) flags.push_back({"train.skip_nonfinite=true", "--skip-nonfinite"});
  if (command.no_cuda_graph) flags.push_back({"train.cuda_graph=false", "--no-cuda-graph"});
  return run_overrides(command.set, flags);
}

/// The run file of a run that goes on where none is given: that of its checkpoint.
std::string own_run_file(const TrainCommand& command) {
  const CheckpointFolder folder(command.out);
  const auto step = spelled(as_flags({"from_checkpoint"}),
                            [&] { return resume_point(folder, command.context.from_checkpoint); });
  require(step.has_value(), at("--config"),
          "is needed, a run file: {} holds no run to go on with, which would have its own",
          command.out);
  return (folder.step_folder(*step) / checkpoint_file::kConfig).string();
}

/// Throws InputError for a text that is given as the run file.
void refuse_text(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return;
  std::ifstream file(path, std::ios::binary);
  char first = 0;
  file >> first;  // the first that is no blank
  const bool is_text = file.good() && std::isalnum(static_cast<unsigned char>(first)) != 0 &&
                       kind_of_weights(path).empty();
  if (!is_text) return;
  Notice notice{at(path + ":"), {}, "a run file (JSON, which begins with {)", "text"};
  notice.hint = "--data takes the text to train on";
  throw InputError(std::move(notice));
}

RunOptions read_run(TrainCommand& command) {
  if (command.config.empty()) command.config = own_run_file(command);
  refuse_text(command.config);
  return read_run_file(command.config, overrides(command));
}

const char* reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::kEarlyStopping:
      return "early stopping";
    case StopReason::kStopped:
      return "signal";
    case StopReason::kFinished:
      break;
  }
  return "finished";
}

/// A reader that is gone does not make a failure of a run that is saved.
void print_line(const std::string& line) { std::fputs((line + "\n").c_str(), stdout); }

/// Whether a signal has asked to stop. Takes the signals when it is first asked, which is when
/// training starts: until then, as while data is read, a signal ends the program at once.
std::function<bool()> stop_on_signals() {
  const auto signals = std::make_shared<std::optional<StopSignals>>();
  return [signals] {
    if (!*signals) signals->emplace();
    return StopSignals::received() != 0;
  };
}

/// The command that goes on with a run. Its checkpoint holds the run file, with what the command
/// line has changed of it. `world` are the processes of this program's own launcher.
std::string command_to_go_on(const TrainCommand& command, int64_t world) {
  std::vector<std::string> arguments{command_line().at(0), "train", "--out", command.out,
                                     "--resume"};
  const auto add = [&](const char* name, const std::string& value) {
    arguments.insert(arguments.end(), {name, value});
  };
  if (!command.context.token_folder.empty())
    add("--token-folder", command.context.token_folder.string());
  if (command.has_gpu) {
    add("--gpus", std::to_string(world));
  } else if (world > 1) {
    add("--processes", std::to_string(world));
  }
  return as_shell_line(arguments);
}

void print_result(const TrainCommand& command, const TrainResult& result,
                  const std::string& goes_on) {
  const auto number = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json();
  };
  if (command.json) {
    print_line(Json{{"directory", command.out},
                    {"reason", reason_name(result.reason)},
                    {"step", result.step},
                    {"loss", number(result.loss)},
                    {"val_loss", number(result.val_loss)},
                    {"best_val_loss", number(result.best_val_loss)},
                    {"skipped_steps", result.skipped_steps}}
                   .dump());
    return;
  }
  const bool is_stopped = result.reason == StopReason::kStopped;
  auto line = fmt::format("{}: {} after step {}", command.out,
                          is_stopped ? "stopped" : reason_name(result.reason), result.step);
  if (result.best_val_loss)
    line += fmt::format(", best validation loss {:.4f}", *result.best_val_loss);
  if (is_stopped) line += fmt::format("; {} goes on", goes_on);
  print_line(line);
}

TrainResult train(const TrainCommand& command, const RunOptions& run) {
  const auto flags =
      as_flags({"resume", "from_checkpoint", "data_changed", "until", "token_folder"});
  const auto hints = hints_by_set(command.config), eager = with_eager_hint();
  const auto spelling = [=](const Notice& notice) { return flags(hints(eager(notice))); };
  auto context = command.context;
  context.random = process_generators();  // this process is the run's alone
  return spelled(spelling, [&] { return train_model(run, command.out, command.resume, context); });
}

void train_alone(TrainCommand& command) {
  const auto run = read_run(command);
  tell_other_data(command.config, command.data);
  spelled(run.spelling, [&] { set_up_process(run.train); });
  command.context.wants_stop = stop_on_signals();
  print_result(command, train(command, run), command_to_go_on(command, 1));
}

/// Trains with other processes.
void train_as_rank(TrainCommand& command, const RankEnvironment& environment) {
  std::optional<RunOptions> run;
  std::exception_ptr wrong;  // thrown when the others are there, so that it is said once
  try {
    run = read_run(command);
  } catch (...) {
    wrong = std::current_exception();
  }
  const auto timeout = run ? run->train.rank_timeout : TrainOptions().rank_timeout;
  run_as_rank(environment, timeout, [&](RankGroup& group) {
    if (wrong) std::rethrow_exception(wrong);
    const auto& place = group.place();
    if (place.is_first()) tell_other_data(command.config, command.data);
    spelled(run->spelling, [&] {
      const auto option = OptionPath("train") / "device";
      set_up_process(run->train, place, environment.on_host);
      const auto device = open_device(run->train.device, option);
      if (!device.is_cpu()) group.join_devices(device, option);
    });
    auto& context = command.context;
    context.place = place;
    context.rank_names = group.names();
    context.sum_over_ranks = [&group](const auto& tensors) { group.sum(tensors); };
    context.start_sum_over_ranks = [&group](const auto& tensors) {
      return group.start_sum(tensors);
    };
    context.start_giving_to_ranks = [&group](const auto& tensors, const auto& owners) {
      return group.start_giving(tensors, owners);
    };
    context.most_over_ranks = [&group](int64_t own) { return group.most(own); };
    context.wants_stop = [&group, stops = stop_on_signals()] { return group.any(stops()); };
    const auto result = train(command, *run);
    if (!place.is_first()) return;
    const bool is_own = environment.launcher == RankLauncher::own;
    print_result(
        command, result,
        is_own ? command_to_go_on(command, place.world) : "the same command with --resume");
  });
}

/// Whether this process trains, as it is or beside others; else it starts those that do.
bool is_launcher(const LaunchOptions& launch) {
  return launch.processes > 1 || launch.gpus || launch.restarts > 0;
}

/// Each process holds the model, and they take turns where there are more of them than processors.
void check_processes(int64_t processes) {
  constexpr int64_t kMaxOfEachProcessor = 4, kAlwaysTaken = 8;
  const int64_t cpus = usable_cpus();
  const auto most = std::max(kAlwaysTaken, kMaxOfEachProcessor * cpus);
  expect(processes <= most, at("--processes"), processes,
         "at most {}, as {} processors may be used", most, cpus);
}

/// Each process takes one.
void check_gpus(const TrainCommand& command, int64_t gpus) {
  require(command.device.empty(), at("--device"), "{} says it: each process takes a GPU",
          option("--gpus"));
  const auto reason = nccl_unsupported();
  if (!is_empty(reason)) throw InputError(because(at("--gpus"), "GPUs cannot be joined", reason));
  const auto most = cuda_device_count();
  expect(gpus <= most, at("--gpus"), gpus, "at most {}, which are seen here", most);
}

void launch_ranks(const TrainCommand& command, bool is_rank) {
  const auto& context = command.context;
  const auto& gpus = command.launch.gpus;
  require(!is_rank, at(gpus ? "--gpus" : "--processes"),
          "this process is one of several already, which another launcher has started");
  gpus ? check_gpus(command, *gpus) : check_processes(command.launch.processes);
  require(command.launch.restarts == 0 ||
              (!context.data_changed && context.from_checkpoint == "latest"),
          at("--restarts"),
          "goes on from the newest checkpoint; start once without it to go on with {} or {}",
          option("--from-checkpoint"), option("--data-changed"));
  const int status = launch(command.launch, own_arguments({"--processes", "--gpus", "--restarts"}));
  if (status != kDone) throw SilentExit{status};
}

}  // namespace

void add_train(CLI::App& app) {
  auto* command =
      app.add_subcommand("train", "train a model on text, tokens or examples of tensors");
  command->footer(
      "Ctrl-C (SIGINT), SIGTERM and SIGHUP end a run after the step that it is in, with a "
      "checkpoint from which --resume goes on; the exit code is 0 then, as for a run that is "
      "finished. A second Ctrl-C ends it at once. Exit code 1: it failed; 2: wrong input, or "
      "no room to write.");
  const auto options = std::make_shared<TrainCommand>();
  command->add_option("run,--config", options->config,
                      "run file: {\"model\": ..., \"data\": ..., \"train\": ...}; `options data`, "
                      "`options train` and `options TYPE` list what may stand in it; with "
                      "--resume, by default that of the run");
  command->add_option("--data", options->data, "text or token file, or folder (data.path)");
  command->add_option("--out", options->out, "folder of the run");
  command->add_option("--steps", options->steps, "updates of the weights (train.steps)");
  command->add_option("--device", options->device, "cpu or cuda (train.device)");
  command->add_option("--set", options->set,
                      "changes a value of the run file, as in --set train.learning_rate=1e-3");
  auto* resume =
      command->add_flag("--resume", options->resume, "go on from the folder's latest checkpoint");
  command
      ->add_option("--from-checkpoint", options->context.from_checkpoint,
                   "with --resume: latest, best, last-good (the newest that can be read) or a step")
      ->needs(resume);
  command
      ->add_flag("--data-changed", options->context.data_changed,
                 "with --resume: go on with other data, from their start")
      ->needs(resume);
  command->add_option_function<std::string>(
      "--token-folder",
      [options](const std::string& path) { options->context.token_folder = path; },
      "where text is kept as tokens, for runs on the same text; default: the folder of the run");
  command
      ->add_option_function<int64_t>(
          "--until", [options](const int64_t& step) { options->context.until = step; },
          "save and end after this step, as a signal would; train.steps stay what the schedules "
          "are for")
      ->check(integer_from(1));
  command->add_flag("--skip-nonfinite", options->skip_nonfinite,
                    "pass over steps whose loss is not finite");
  command->add_flag("--no-cuda-graph", options->no_cuda_graph, "run every step eagerly");
  command->add_flag("--json", options->json, "print the result as JSON");
  auto* processes =
      command
          ->add_option("--processes", options->launch.processes,
                       "number of processes on this host, each with data.batch_size samples "
                       "of every batch; mpirun, torchrun and srun need no option")
          ->check(integer_from(1));
  command
      ->add_option_function<int64_t>(
          "--gpus", [options](const int64_t& gpus) { options->launch.gpus = gpus; },
          "the same, each with a GPU of this host, joined by NCCL (train.device cuda)")
      ->check(integer_from(1))
      ->excludes(processes);
  command
      ->add_option("--restarts", options->launch.restarts,
                   "if a process fails, restart from the last checkpoint, at most this many times")
      ->check(integer_from(0));
  command->callback([options] {
    std::signal(SIGPIPE, SIG_IGN);  // a closed pipe or terminal does not stop a run
    require(!options->config.empty() || options->resume, at("--config"),
            "is needed, a run file (a run that goes on with {} has its own)", option("--resume"));
    const auto environment = rank_environment([](const char* name) { return std::getenv(name); });
    if (is_launcher(options->launch)) {
      launch_ranks(*options, environment.has_value());
    } else if (environment) {
      options->has_gpu = environment->has_gpu;
      train_as_rank(*options, *environment);
    } else {
      train_alone(*options);
    }
  });
}

}  // namespace x_transformers
