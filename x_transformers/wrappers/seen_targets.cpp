#include "x_transformers/wrappers/seen_targets.h"

#include <ATen/core/grad_mode.h>

#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"

namespace x_transformers {
namespace {

thread_local int meant = 0;

}  // namespace

NonCausalMeant::NonCausalMeant() { ++meant; }

NonCausalMeant::~NonCausalMeant() { --meant; }

void warn_of_seen_targets(const torch::nn::Module& wrapper, const char* net, bool is_causal,
                          const at::Tensor& attn_mask) {
  if (is_causal || meant > 0 || attn_mask.defined()) return;
  if (!wrapper.is_training() || !at::GradMode::is_enabled()) return;
  warn(at(net),
       "is not causal: each token sees those after it, which the model is to predict, and it "
       "learns to copy them. kind = LayersKind::decoder makes {} causal ({} = true where a model "
       "has that option); NonCausalMeant is for those who mean it",
       option(OptionPath(net) / "attn_layers"), option(OptionPath(net) / "causal"));
}

}  // namespace x_transformers
