// forward, and generate with --config: one call of a model with named tensors, the interchange that
// parity checks use.
#include <ATen/ATen.h>
#include <torch/utils.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/call.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/move_module.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/pt_file.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/weight_file.h"

namespace x_transformers {

Json parse_kwargs(const std::string& text) { return parse_json_argument(text, "--kwargs"); }

TensorMap load_inputs(const std::string& path, const at::Device& device, at::ScalarType dtype) {
  const auto start = first_bytes(path);
  const bool is_own = is_safetensors(path, start), is_pt = !is_own && starts_pt_file(start);
  // One that is named so and damaged: its reader says how.
  const bool is_named_so = path.ends_with(".safetensors");
  require(is_own || is_pt || is_named_so || !std::filesystem::is_regular_file(path), at(path + ":"),
          "is neither a safetensors file nor a dict of torch.save, which hold tensors");
  auto inputs = is_pt ? load_pt(path) : load_safetensors(path).tensors;
  for (auto& [name, tensor] : inputs) {
    // Ids of any width are ids; models know int64.
    const bool are_ids = at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false);
    const auto type = tensor.is_floating_point() ? dtype : are_ids ? at::kLong : at::kBool;
    tensor = tensor.is_complex() ? tensor.to(device) : tensor.to(device, type);
  }
  return inputs;
}

Spelling of_inputs(const std::string& file, const TensorMap& inputs) {
  return [&inputs, place = file + ":"](Notice notice) {
    for (auto& path : notice.about.options) {
      if (path == OptionPath("inputs"))  // all of them
        path = OptionPath(place);
      else if (inputs.count(path.joined()) > 0)
        path = OptionPath(place) / path;
    }
    return notice;
  };
}

at::ScalarType parse_dtype(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "float64") return at::kDouble;
  if (name == "bfloat16") return at::kBFloat16;
  expect(false, at("--dtype"), name, "float32, float64 or bfloat16");
  return {};
}

void add_call_options(CLI::App& command, CallOptions& options) {
  command.add_option("--config", options.config, "model file or run file (JSON)");
  auto* weights = command.add_option(
      "--weights", options.weights,
      "weights: safetensors, a file of torch.save, an index or a folder; default: freshly "
      "initialised");
  for (auto* option : add_weight_options(command, options.selection)) option->needs(weights);
  command.add_option("--inputs", options.inputs,
                     "tensors by the names of the arguments: safetensors, or a dict of torch.save");
  command.add_option("--kwargs", options.kwargs, "further arguments as a JSON object");
  command.add_option("--outputs", options.outputs, "where the results go (.safetensors)");
  command.add_option("--seed", options.seed, "start of the random numbers");
  command.add_option("--device", options.device, "cpu, cuda or cuda:N");
  command.add_option("--dtype", options.dtype, "float32, float64 or bfloat16");
  add_threads_option(command, options.threads);
}

namespace {

/// How the weights begin of modules that are given as arguments, such as amateur_model: they stand
/// in the model's file under the argument's name.
std::vector<std::string> prefixes_of_modules(const Json& kwargs) {
  std::vector<std::string> prefixes;
  for (const auto& [name, value] : kwargs.items()) {
    const auto& one = value.is_array() && !value.empty() ? value[0] : value;
    if (one.is_object() && one.contains("type")) prefixes.push_back(name + ".");
  }
  return prefixes;
}

/// Adds the weights that begin so to the inputs, where modules that are arguments look for theirs.
void add_weights_of_modules(const CallOptions& options, const std::vector<std::string>& prefixes,
                            TensorMap& inputs) {
  if (prefixes.empty() || options.weights.empty()) return;
  const auto weights = load_model_weights(options.weights, options.selection).tensors;
  for (const auto& [name, weight] : weights) {
    for (const auto& prefix : prefixes)
      if (name.starts_with(prefix)) inputs.emplace(name, weight);
  }
}

}  // namespace

void run_call(const CallOptions& options, const std::string& mode) {
  require(!options.config.empty(), at("--config"), "is needed");
  require(!options.outputs.empty(), at("--outputs"), "is needed");
  require_output("--outputs", options.outputs, {options.config, options.weights, options.inputs});
  require_safetensors_name("--outputs", options.outputs);
  use_most_threads(options.threads);
  const auto device = open_device(options.device, "--device");
  at::manual_seed(static_cast<uint64_t>(options.seed));
  const auto model = build_model(read_model_file(options.config), options.config + ":");
  const auto dtype = parse_dtype(options.dtype);
  const auto kwargs = parse_kwargs(options.kwargs);
  auto selection = options.selection;
  selection.of_others = prefixes_of_modules(kwargs);
  if (!options.weights.empty()) {
    spelled(weight_arguments(), [&] { return load_weights(*model, options.weights, selection); });
  }
  move_module(model->module(), device, dtype);
  model->module().train(options.train);
  TensorMap inputs;
  if (!options.inputs.empty()) inputs = load_inputs(options.inputs, device, dtype);
  add_weights_of_modules(options, selection.of_others, inputs);
  // What a call draws does not depend on what the weights drew before they were loaded.
  at::manual_seed(static_cast<uint64_t>(options.seed));
  const auto run = [&] { return run_model(*model, mode, inputs, kwargs, options.grads); };
  save_safetensors(options.outputs, options.inputs.empty()
                                        ? run()
                                        : spelled(of_inputs(options.inputs, inputs), run));
}

void add_forward(CLI::App& app) {
  auto* command = app.add_subcommand("forward", "call a model with tensors from a file");
  const auto options = std::make_shared<CallOptions>();
  add_call_options(*command, *options);
  command->add_flag("--grads", options->grads, "also write the gradients of the parameters");
  command->add_flag("--train", options->train, "train mode (dropout and the like)");
  command->callback([options] { run_call(*options, "forward"); });
}

}  // namespace x_transformers
