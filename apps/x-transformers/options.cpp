// options: every option of a type or of a part of run files, with type, default, meaning and paper.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "apps/x-transformers/commands.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {

namespace {

struct OptionsCommand {
  std::string type;
  bool json = false;
};

bool is_run_part(const std::string& name) {
  const auto& parts = run_parts();
  return std::find(parts.begin(), parts.end(), name) != parts.end();
}

/// What the command line of `generate` calls the option `name`; empty: it has no such option.
std::string flag_of(const CLI::App& generate, const std::string& name) {
  auto flag = name == "seq_len" ? "tokens" : name == "eos_token" ? "eos" : name;
  std::replace(flag.begin(), flag.end(), '_', '-');
  flag.insert(0, "--");
  return generate.get_option_no_throw(flag) ? flag : "";
}

std::vector<OptionHelp> options_of(const std::string& name) {
  if (is_run_part(name)) return run_part_options(name);
  auto known = model_types();
  if (std::find(known.begin(), known.end(), name) != known.end()) return model_options(name);
  known.insert(known.end(), run_parts().begin(), run_parts().end());
  detail::unknown("options", "type", name, known);
}

/// The same. Those of `generate` have the defaults of its command line, and
/// say what they are called there.
std::vector<OptionHelp> options_of(const std::string& name, const CLI::App& generate) {
  auto lines = options_of(name);
  if (name != "generate") return lines;
  for (auto& line : lines) {
    const auto flag = flag_of(generate, line.name);
    if (flag.empty()) continue;
    line.meaning += fmt::format(" ({})", flag);
    if (const auto usual = generate.get_option(flag)->get_default_str(); !usual.empty())
      line.default_value = usual;
  }
  return lines;
}

void print_names(bool json) {
  if (json) {
    fmt::print("{}\n", Json(model_types()).dump());
    return;
  }
  for (const auto& type : model_types()) fmt::print("{}\n", type);
}

void print_json(const std::string& type, const std::vector<OptionHelp>& lines) {
  Json options = Json::array();
  for (const auto& line : lines) {
    options.push_back({{"name", line.name},
                       {"type", line.type},
                       {"default", line.has_default ? Json(line.default_value) : Json()},
                       {"meaning", line.meaning},
                       {"paper", line.paper},
                       {"required", line.required},
                       {"built", line.built}});
  }
  fmt::print("{}\n", Json{{"type", type}, {"options", options}}.dump());
}

void print_table(const std::string& type, const std::vector<OptionHelp>& lines) {
  if (lines.empty()) fmt::print("{} has no options\n", type);
  for (const auto& line : lines) {
    if (!line.built) {
      fmt::print("{:<44} not built yet\n", line.name);
      continue;
    }
    const auto paper = line.paper.empty() ? "" : "  [" + line.paper + "]";
    fmt::print("{:<44} {}{}\n{:<44}   {}; {}\n", line.name, line.meaning, paper, "", line.type,
               line.required      ? "needed"
               : line.has_default ? "default " + line.default_value
                                  : "default: that of attn_");
  }
}

}  // namespace

void add_options(CLI::App& app) {
  auto* command = app.add_subcommand(
      "options", "list the types of models, or every option of one, or of data, train, generate");
  const auto options = std::make_shared<OptionsCommand>();
  command->add_option("type", options->type,
                      "a type, such as Decoder; data or train, the parts of a run file; generate; "
                      "without: all types");
  command->add_flag("--json", options->json, "for machines");
  const auto* generate = app.get_subcommand("generate");
  command->callback([options, generate] {
    if (options->type.empty()) return print_names(options->json);
    const auto lines = options_of(options->type, *generate);
    if (options->json) {
      print_json(options->type, lines);
    } else {
      print_table(options->type, lines);
    }
  });
}

}  // namespace x_transformers
