#include "x_transformers/train/language_model.h"

#include <ATen/ATen.h>

#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/train/run_tokenizer.h"

namespace x_transformers {
namespace {

std::filesystem::path checkpoint_folder(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? path : path.parent_path();
}

AutoregressiveWrapperOptions read_options(const Json& config, const std::string& where) {
  if (!config.is_object()) detail::wrong_type(where, "an object with a type", config);
  if (config.value("type", Json()) == "TransformerWrapper") {
    AutoregressiveWrapperOptions options;
    options.net = options_from_json<TransformerWrapperOptions>(config, where);
    return options;
  }
  require(config.contains("type"), where + ".type: expected the name of a class, got none");
  require_type(config, "AutoregressiveWrapper", where);
  if (config.contains("net")) require_type(config["net"], "TransformerWrapper", where + ".net");
  return options_from_json<AutoregressiveWrapperOptions>(config, where);
}

}  // namespace

AutoregressiveWrapper build_language_model(const Json& config, const std::string& where) {
  const auto options = read_options(config, where);
  try {
    return AutoregressiveWrapper(options);
  } catch (const InputError& error) {
    const std::string within_wrapper = "net.";
    std::string message = error.what();
    const bool is_wrapped = config["type"] == "AutoregressiveWrapper";
    if (!is_wrapped && message.starts_with(within_wrapper)) message.erase(0, within_wrapper.size());
    const bool has_path = where.find(": ") != std::string::npos;  // FILE: path
    throw InputError(has_path ? within_part(where.c_str(), message) : where + ": " + message);
  } catch (...) {
    rethrow_at(where);
  }
}

std::string language_model_spelling(const std::string& model) {
  return options_to_json(read_options(Json::parse(model), "model")).dump();
}

LanguageModel load_language_model(const std::filesystem::path& path, at::Device device,
                                  at::ScalarType dtype) {
  require(std::filesystem::exists(path), path.string() + ": does not exist");
  const auto folder = checkpoint_folder(path);
  const auto config_path = folder / checkpoint_file::kConfig;
  require(std::filesystem::exists(config_path),
          path.string() + ": there is no " + checkpoint_file::kConfig +
              " (expected the folder of a run or of a checkpoint)");
  const auto config = read_json_file(config_path.string());
  require(config.contains("model"), config_path.string() + ": has no 'model'");
  LanguageModel loaded;
  loaded.model = build_language_model(config["model"], config_path.string() + ": model");
  const auto weights =
      std::filesystem::is_directory(path) ? folder / checkpoint_file::kModel : path;
  load_state_dict(*loaded.model, load_model_weights(weights));
  for (auto& parameter : loaded.model->parameters()) parameter.set_requires_grad(false);
  loaded.model->to(device);
  if (dtype != at::kFloat) {
    // Buffers (rotary frequencies) keep their precision.
    for (auto& parameter : loaded.model->parameters()) parameter.set_data(parameter.to(dtype));
  }
  loaded.model->eval();
  loaded.tokenizer = saved_tokenizer(folder);
  return loaded;
}

}  // namespace x_transformers
