#include "x_transformers/interchange/stack_sample.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

namespace x_transformers {

void add_packed_sample(const std::string& name, SampleCall& call) {
  for (const char* key : {"cu_seqlens_q", "cu_seqlens_k"})
    call.inputs[fmt::format("{}.{}", name, key)] = at::zeros({2}, at::kLong);
}

void add_stack_sample(const AttentionLayersImpl& layers, SampleCall& call) {
  const auto& o = layers.options();
  if (o.needs_condition())
    call.inputs["condition"] = at::zeros({1, o.dim_condition.value_or(o.dim)});
  if (o.attn.flash_pack_seq) add_packed_sample("flash_pack_seq_kwargs", call);
  if (!o.cross_attend) return;
  const auto& cross = *o.cross_attn;
  call.inputs["context"] = at::zeros({1, call.tokens, cross.dim_context.value_or(o.dim)});
  if (cross.flash_pack_seq) add_packed_sample("flash_pack_seq_context_kwargs", call);
}

}  // namespace x_transformers
