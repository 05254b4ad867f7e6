#include "x_transformers/train/initial_weights.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/io/weight_names.h"
#include "x_transformers/io/weight_translation.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/train/language_model.h"

namespace x_transformers {
namespace {

bool is_alike(const TensorMap& one, const TensorMap& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](const auto& a, const auto& b) {
                      return a.first == b.first && a.second.sizes() == b.second.sizes();
                    });
}

bool has_config(const std::filesystem::path& path) {
  const auto folder = std::filesystem::is_directory(path) ? path : path.parent_path();
  return std::filesystem::exists(folder / checkpoint_file::kConfig);
}

// Weights that no model file stands beside: into every net that they fit, else into the whole.
void start_from_weights(Model& model, const std::filesystem::path& path) {
  const auto weights = weights_of_release(load_model_weights(path), model.compat(), path);
  bool is_taken = false;
  for (const auto& child : model.module().children()) {
    const auto named =
        spelled(below(path.string() + ":"), [&] { return named_as(*child, weights); });
    if (!compare_weights(state_dict(*child), named).clean()) continue;
    load_state_dict(*child, named);
    is_taken = true;
  }
  if (!is_taken) load_weights(model, path);
}

}  // namespace

void start_from(Model& model, const std::filesystem::path& path) {
  const auto place = OptionPath("train") / "init_from";
  require(std::filesystem::exists(path), at(place), "{} does not exist", path.string());
  if (!has_config(path)) return start_from_weights(model, path);
  const auto start = load_language_model(path, at::kCPU, at::kFloat);
  const auto net = start.model->token_model();
  require(net != nullptr, at(place), "{} holds no net that wrappers take", path.string());
  const auto weights = state_dict(*net);
  bool is_taken = false;
  for (const auto& child : model.module().children()) {
    if (!is_alike(state_dict(*child), weights)) continue;
    load_state_dict(*child, weights);
    is_taken = true;
  }
  require(is_taken, at(place),
          "the model wraps no net whose weights have the names and shapes of those in {}",
          path.string());
}

}  // namespace x_transformers
