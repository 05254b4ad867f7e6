// convert: weights between files, checked against a model where one is given.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_translation.h"

namespace x_transformers {

namespace {
struct ConvertCommand {
  std::string from, to, config;
};

/// Writes the weights with the meaning of the model's release or, without a model, as they are:
/// of the release that their file says, else of that which model files mean that say none. Returns
/// how many tensors.
size_t convert(const ConvertCommand& command) {
  auto weights = load_model_weights(command.from);
  if (command.config.empty()) {
    const auto release =
        weights.xt_compat.empty() ? name_of(Compat().xt_compat) : weights.xt_compat;
    save_weights(command.to, weights.tensors, release);
    return weights.tensors.size();
  }
  const auto model = build_model(read_model_file(command.config), command.config + ":");
  const auto tensors = weights_of_release(std::move(weights), model->compat(), command.from);
  load_state_dict(model->module(), tensors);
  save_weights(command.to, tensors, name_of(model->compat().xt_compat));
  return tensors.size();
}
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
    const auto count = convert(*options);
    fmt::print("{}: {} tensors\n", options->to, count);
  });
}

}  // namespace x_transformers
