// plot and report: runs that were made before, beside each other.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/comparison_files.h"
#include "x_transformers/compare/comparison_table.h"
#include "x_transformers/compare/pictures.h"
#include "x_transformers/compare/run_groups.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/gnuplot.h"

namespace x_transformers {

namespace {

namespace fs = std::filesystem;

struct PlotCommand {
  std::vector<std::string> runs;
  std::string x = "steps", out = "loss.png";
  bool smooth = false, training = false;
};

struct ReportCommand {
  std::vector<std::string> runs;
  std::string out = "runs/report";
  bool json = false;
};

std::vector<fs::path> as_paths(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

void run_plot(const PlotCommand& command) {
  constexpr double kSmoothing = 0.05;
  const auto ending = fs::path(command.out).extension().string();
  expect(ending == ".png" || ending == ".svg", at("--out"), command.out,
         "a name that ends in .png or .svg");
  RunCurvesOptions options;
  options.x = command.x;
  options.of_training = command.training || command.smooth;
  options.smoothing = command.smooth ? kSmoothing : 0;
  const auto picture = run_curves(as_paths(command.runs), options);
  const auto drawn = draw_curves(picture, ending.substr(1));
  require(drawn.has_value(), at("plot"), "{}", gnuplot_unsupported());
  write_file_atomically(command.out, *drawn);
  fmt::print("{}\n", command.out);
}

void run_report(const ReportCommand& command) {
  const auto result = compare_runs(as_paths(command.runs));
  std::error_code error;
  fs::create_directories(command.out, error);
  if (error)
    throw InputError(caused(at(command.out + ":"), "cannot make the folder", cause_of(error)));
  write_results(result, command.out);
  write_report(
      result, fmt::format("How do {} runs compare with {}?", command.runs.size(), result.base.name),
      command.out);
  if (command.json) {
    fmt::print("{}\n", results_json(result).dump());
  } else {
    fmt::print("{}", aligned(terminal_table(results_table(result))));
    std::fprintf(stderr, "%s: results.tsv, results.json and report.html\n", command.out.c_str());
  }
}

}  // namespace

void add_plot(CLI::App& app) {
  auto* command = app.add_subcommand("plot", "losses of runs in one picture");
  const auto options = std::make_shared<PlotCommand>();
  command->add_option("runs", options->runs, "folders of runs; the first one is black")->required();
  command->add_option("--x", options->x, "steps, seconds (of training) or tokens")
      ->check(one_of({"steps", "seconds", "tokens"}));
  command->add_flag("--smooth", options->smooth, "the moving average of the training loss");
  command->add_flag("--training", options->training,
                    "the loss of training batches in place of that of validation");
  command->add_option("--out", options->out, "picture to write, .png or .svg");
  command->callback([options] { run_plot(*options); });
}

void add_report(CLI::App& app) {
  auto* command =
      app.add_subcommand("report", "runs that were made before, compared: table, pictures, page");
  const auto options = std::make_shared<ReportCommand>();
  command
      ->add_option("runs", options->runs,
                   "folders of runs; those that differ in their seeds alone are one variant, and "
                   "the first one is of the base")
      ->required();
  command->add_option("--out", options->out, "folder of the report");
  command->add_flag("--json", options->json, "results.json on stdout");
  command->callback([options] { run_report(*options); });
}

}  // namespace x_transformers
