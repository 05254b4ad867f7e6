#include "x_transformers/core/capture_check.h"

namespace x_transformers {

std::string capture_unsupported(const torch::nn::Module& model) {
  if (const auto* check = dynamic_cast<const CaptureCheck*>(&model)) {
    if (auto reason = check->capture_unsupported(); !reason.empty()) return reason;
  }
  for (const auto& child : model.children()) {
    if (auto reason = capture_unsupported(*child); !reason.empty()) return reason;
  }
  return {};
}

}  // namespace x_transformers
