#include "x_transformers/train/initial_weights.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/train/language_model.h"

namespace x_transformers {
namespace {

bool is_alike(const TensorMap& one, const TensorMap& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](const auto& a, const auto& b) {
                      return a.first == b.first && a.second.sizes() == b.second.sizes();
                    });
}

}  // namespace

void start_from(Model& model, const std::filesystem::path& path) {
  const auto start = load_language_model(path, at::kCPU, at::kFloat);
  const auto net = start.model->token_model();
  const auto place = OptionPath("train") / "init_from";
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
