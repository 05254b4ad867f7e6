// convert: weights between files, checked against a model where one is given.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"

namespace x_transformers {

namespace {
struct ConvertCommand {
  std::string from, to, config;
};
}  // namespace

void add_convert(CLI::App& app) {
  auto* command =
      app.add_subcommand("convert", "write weights (.pt or .safetensors) as safetensors");
  const auto options = std::make_shared<ConvertCommand>();
  command
      ->add_option("from", options->from,
                   "a state_dict saved by torch.save, or a .safetensors file")
      ->required();
  command->add_option("to", options->to, "the .safetensors file to write")->required();
  command->add_option("--config", options->config,
                      "model file or run file: check that names, shapes and dtypes fit it");
  command->callback([options] {
    require(options->to.ends_with(".safetensors"),
            "to: expected a name that ends in .safetensors, got " + options->to);
    require_output("to", options->to, {options->from, options->config});
    const auto weights = load_model_weights(options->from);
    if (!options->config.empty()) {
      const auto model = build_model(read_model_file(options->config), options->config + ":");
      load_state_dict(model->module(), weights);
    }
    save_weights(options->to, weights);
    fmt::print("{}: {} tensors\n", options->to, weights.size());
  });
}

}  // namespace x_transformers
