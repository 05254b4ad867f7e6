#include "x_transformers/models/capture.h"

#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

std::string capture_refusal(const torch::nn::Module& model) {
  std::string reason;
  if (const auto* wrapper = dynamic_cast<const TransformerWrapperImpl*>(&model)) {
    reason = wrapper->capture_refusal();
  } else if (const auto* layers = dynamic_cast<const AttentionLayersImpl*>(&model)) {
    reason = layers->capture_refusal();
  }
  if (!reason.empty()) return reason;
  // Modules given as values (hybrid_module, token_emb) may be stacks and models too.
  for (const auto& child : model.children()) {
    if (reason = capture_refusal(*child); !reason.empty()) return reason;
  }
  return {};
}

}  // namespace x_transformers
