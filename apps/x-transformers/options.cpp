// options: every option of a type, with type, default, meaning and paper.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "apps/x-transformers/commands.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {

namespace {

struct OptionsCommand {
  std::string type;
  bool json = false;
};

void print_types(bool json) {
  if (json) {
    fmt::print("{}\n", Json(model_types()).dump());
    return;
  }
  for (const auto& type : model_types()) fmt::print("{}\n", type);
}

void print_json(const std::string& type) {
  Json options = Json::array();
  for (const auto& line : model_options(type)) {
    options.push_back({{"name", line.name},
                       {"type", line.type},
                       {"default", line.default_value},
                       {"meaning", line.meaning},
                       {"paper", line.paper},
                       {"required", line.required},
                       {"built", line.built}});
  }
  fmt::print("{}\n", Json{{"type", type}, {"options", options}}.dump());
}

void print_table(const std::string& type) {
  const auto lines = model_options(type);
  if (lines.empty()) fmt::print("{} has no options\n", type);
  for (const auto& line : lines) {
    if (!line.built) {
      fmt::print("{:<44} not built yet\n", line.name);
      continue;
    }
    const auto paper = line.paper.empty() ? "" : "  [" + line.paper + "]";
    fmt::print("{:<44} {}{}\n{:<44}   {}; {}\n", line.name, line.meaning, paper, "", line.type,
               line.required ? "needed" : "default " + line.default_value);
  }
}

}  // namespace

void add_options(CLI::App& app) {
  auto* command = app.add_subcommand("options", "list the types, or every option of a type");
  const auto options = std::make_shared<OptionsCommand>();
  command->add_option("type", options->type, "a type, such as Decoder; without: all types");
  command->add_flag("--json", options->json, "for machines");
  command->callback([options] {
    if (options->type.empty()) {
      print_types(options->json);
    } else if (options->json) {
      print_json(options->type);
    } else {
      print_table(options->type);
    }
  });
}

}  // namespace x_transformers
