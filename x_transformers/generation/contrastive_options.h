// Options of contrastive decoding.
#pragma once

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

/// Throws InputError unless 0 < alpha <= 1 and beta is finite.
void validate(const ContrastiveDecodeOptions& options);

}  // namespace x_transformers
