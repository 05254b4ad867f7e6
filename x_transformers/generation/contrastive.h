// Contrastive decoding: what an expert model says beyond what a weaker one says.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/generation/decoding_session.h"

namespace x_transformers {

struct ContrastiveDecodeOptions {
  /// strength with which the amateur's logits are subtracted (arXiv:2309.09117)
  double beta = 0.5;
  /// tokens below this share of the expert's best probability are ruled out (arXiv:2210.15097)
  double alpha = 0.1;

  template <class Visitor>
  void fields(Visitor& v) {
    v("beta", beta, "strength with which the amateur's logits are subtracted", "arXiv:2309.09117");
    v("alpha", alpha, "tokens below this share of the expert's best probability are ruled out",
      "arXiv:2210.15097");
  }
};

/// A weaker model to decode against. It shares the expert's vocabulary; its session holds the same
/// sequences.
struct Amateur {
  DecodingSession* session = nullptr;
  ContrastiveDecodeOptions options;
};

/// Throws InputError unless 0 < alpha <= 1 and beta is finite.
void validate(const ContrastiveDecodeOptions& options);

/// (1 + beta) * expert - beta * amateur where the expert's logit reaches log(alpha) + its highest,
/// else the lowest float32. Algorithm 2 in appendix A of arXiv:2309.09117. All `[..., vocab]`
/// float32. Throws InputError where the two vocabularies differ.
at::Tensor contrastive_decode_fn(const at::Tensor& expert_logits, const at::Tensor& amateur_logits,
                                 const ContrastiveDecodeOptions& options = {});

}  // namespace x_transformers
