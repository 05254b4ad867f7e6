// Attention by cuDNN's graphs of score modifiers.
#pragma once

#include <string>

#include "x_transformers/kernels/scored_attention.h"

namespace x_transformers::kernels::cuda {

/// Builds the plan of such a call at the first one (up to a second), for whatever memory. The bytes
/// of its workspace, or -1 with the reason why cuDNN does not run it.
int64_t scored_attention_workspace(const ScoredAttention& params, int8_t device,
                                   std::string& reason);

/// On LibTorch's current stream, without waiting. Throws c10::Error where it fails.
void scored_attention(const ScoredAttention& params, int8_t device);

}  // namespace x_transformers::kernels::cuda
