#include "apps/x-transformers/comparison_files.h"

#include <ATen/Context.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "apps/x-transformers/arguments.h"
#include "x_transformers/compare/comparison.h"
#include "x_transformers/compare/comparison_table.h"
#include "x_transformers/compare/pictures.h"
#include "x_transformers/compare/report.h"
#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/machine.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/gnuplot.h"

namespace x_transformers {

namespace fs = std::filesystem;

namespace {

std::string processor_name() {
  constexpr std::string_view kField = "model name";
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const auto colon = line.find(':');
    if (line.starts_with(kField) && colon + 2 < line.size()) return line.substr(colon + 2);
  }
  return "of an unknown kind";
}

}  // namespace

std::string this_command() {
  auto arguments = command_line();
  std::erase_if(arguments, [](const auto& each) { return each == "--resume" || each == "--json"; });
  arguments.at(0) = "x-transformers";
  return as_shell_line(arguments);
}

std::vector<std::pair<std::string, std::string>> machine_facts() {
  return {{"x-transformers", XT_VERSION},
          {"LibTorch", TORCH_VERSION},
          {"processor", fmt::format("{} ({}), {} usable", processor_name(),
                                    at::get_cpu_capability(), usable_cpus(cpu_limits()))},
          {"memory", fmt::format("{:.1f} GB", static_cast<double>(machine_memory()) / 1e9)}};
}

namespace {

/// Values by their paths, in words.
std::string words_of_settings(const Json& settings) {
  std::vector<std::string> parts;
  for (const auto& [path, value] : settings.items())
    parts.push_back(fmt::format("{} {}", path, value.dump()));
  return fmt::format("{}", fmt::join(parts, ", "));
}

struct NamedPicture {
  std::string file, name;
  /// In a format; empty: there is nothing to show, or it cannot be drawn here.
  std::function<std::optional<std::string>(const std::string& format)> draw;
};

std::vector<NamedPicture> pictures_of(const ComparisonResult& result) {
  const auto curves = [&result](const std::string& x) {
    return [&result, x](const std::string& format) {
      return draw_curves(loss_curves(result, x), format);
    };
  };
  const auto of_steady_speed = [&result](auto draw) {
    return [&result, draw](const std::string& format) {
      return has_steady_speed(result) ? draw(format) : std::nullopt;
    };
  };
  const auto costs = [&result](const std::string& format) { return draw_costs(result, format); };
  return {{"differences", "Differences to the base",
           [&](const std::string& format) { return draw_differences(result, format); }},
          {"loss_over_steps", "Loss over steps", curves("steps")},
          {"loss_over_seconds", "Loss over seconds", of_steady_speed(curves("seconds"))},
          {"loss_against_cost", "Loss against cost", of_steady_speed(costs)}};
}

Report report_of(const ComparisonResult& result) {
  Report report;
  report.title = "Which idea helps: " + fs::path(result.run_file).filename().string();
  report.verdicts = verdict_sentences(result);
  report.table = results_table(result);
  report.base_run = result.base_run.dump(2);
  for (const auto& variant : result.variants)
    report.configurations.emplace_back(variant.name, words_of_settings(variant.settings));
  report.facts = machine_facts();
  report.commands = {this_command()};
  return report;
}

}  // namespace

void write_results(const ComparisonResult& result, const fs::path& folder) {
  write_file_atomically(folder / "results.tsv", results_tsv(result));
  write_file_atomically(folder / "results.json", results_json(result).dump(2) + "\n");
}

void write_report(const ComparisonResult& result, const std::string& question,
                  const fs::path& folder) {
  auto report = report_of(result);
  report.question = question;
  bool is_drawn = false;
  for (const auto& picture : pictures_of(result)) {
    const auto file = folder / (picture.file + ".png");
    if (const auto png = picture.draw("png")) {
      write_file_atomically(file, *png);
      is_drawn = true;
    } else {
      // One of an earlier state would be taken for one of this.
      std::error_code ignored;
      fs::remove(file, ignored);
    }
    if (const auto svg = picture.draw("svg")) report.pictures.emplace_back(picture.name, *svg);
  }
  if (!is_drawn)
    report.table.notes.push_back(fmt::format("No pictures: {}.", gnuplot_unsupported()));
  write_file_atomically(folder / "report.html", report_html(report));
}

}  // namespace x_transformers
