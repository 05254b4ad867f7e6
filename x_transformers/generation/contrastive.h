// Contrastive decoding: what an expert model says beyond what a weaker one says.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/generation/contrastive_options.h"
#include "x_transformers/generation/decoding_session.h"

namespace x_transformers {

/// A weaker model to decode against. It shares the expert's vocabulary; its session holds the same
/// sequences.
struct Amateur {
  DecodingSession* session = nullptr;
  ContrastiveDecodeOptions options;
};

/// (1 + beta) * expert - beta * amateur where the expert's logit reaches log(alpha) + its highest,
/// else the lowest float32. Algorithm 2 in appendix A of arXiv:2309.09117. All `[..., vocab]`
/// float32. Throws InputError where the two vocabularies differ.
at::Tensor contrastive_decode_fn(const at::Tensor& expert_logits, const at::Tensor& amateur_logits,
                                 const ContrastiveDecodeOptions& options = {});

}  // namespace x_transformers
