// convert: weights between files, checked against a model where one is given.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/core/compat.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/io/weight_names.h"

namespace x_transformers {

namespace {
struct ConvertCommand {
  std::string from, to, config;
  WeightSelection selection;
  bool untie = true;
};

/// Says what another reader of the written file would miss.
void warn_of_source(const std::string& path, const TensorMap& tensors) {
  if (const auto part = part_of_several(path); !part.empty()) warn(at(path + ":"), "{}", part);
  const auto wrapper = wrapper_in_names(tensors);
  if (wrapper.empty()) return;
  warn(at(path + ":"),
       "names of tensors hold '{}', which PyTorch has put around a model: {} MODEL takes it out, "
       "and so does {} '{}\\.='",
       wrapper, option("--config"), option("--rename"), wrapper.substr(0, wrapper.size() - 1));
}

/// Weights with the meaning of the model's release, by its names; without a model as they are: of
/// the release that their file says, else of that which model files mean that say none.
FileWeights read_weights(const ConvertCommand& command) {
  if (!command.config.empty()) {
    const auto model = build_model(read_model_file(command.config), command.config + ":");
    return {load_weights(*model, command.from, command.selection),
            name_of(model->compat().xt_compat)};
  }
  if (!command.selection.xt_compat.empty()) release_named(command.selection.xt_compat, "xt_compat");
  auto weights = load_model_weights(command.from, command.selection);
  require(!weights.tensors.empty(), at(command.from + ":"), "holds no tensors");
  warn_of_source(command.from, weights.tensors);
  if (weights.xt_compat.empty()) weights.xt_compat = name_of(Compat().xt_compat);
  return weights;
}

void convert(const ConvertCommand& command) {
  const auto weights = spelled(weight_arguments(), [&] { return read_weights(command); });
  const auto tied = command.untie ? TiedWeights::each : TiedWeights::once;
  const auto stored = [&] {
    try {
      return save_weights(command.to, weights.tensors, weights.xt_compat, {}, tied);
    } catch (const InputError& error) {  // of a tensor that safetensors files cannot hold
      throw InputError(below(command.from + ":")(error.notice()));
    }
  }();
  const auto names = weights.tensors.size();
  fmt::print("{}: {}{}\n", command.to, how_many(static_cast<int64_t>(stored), "tensor"),
             names == stored ? "" : fmt::format(" under {} names", names));
}
}  // namespace

void add_convert(CLI::App& app) {
  auto* command =
      app.add_subcommand("convert", "write weights (safetensors or of torch.save) as safetensors");
  const auto options = std::make_shared<ConvertCommand>();
  command
      ->add_option("from", options->from,
                   "a state_dict saved by torch.save, a .safetensors file, the index of several "
                   "files, or a folder with one of these")
      ->required();
  command->add_option("to", options->to, "the .safetensors file to write")->required();
  command->add_option("--config", options->config,
                      "model file or run file: check that names, shapes and dtypes fit it");
  add_weight_options(*command, options->selection);
  command->add_flag("--untie,!--tie", options->untie,
                    "write tied weights under each of their names, as Python reads them (the "
                    "default); --tie: once, which only this program reads");
  command->callback([options] {
    expect(options->to.ends_with(".safetensors"), at("to"), Words{options->to},
           "a name that ends in .safetensors");
    require_output("to", options->to, {options->from, options->config});
    convert(*options);
  });
}

}  // namespace x_transformers
