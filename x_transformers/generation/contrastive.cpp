#include "x_transformers/generation/contrastive.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <limits>

#include "x_transformers/core/error.h"

namespace x_transformers {

void validate(const ContrastiveDecodeOptions& options) {
  const OptionPath where = "contrastive_decode_kwargs";
  expect(options.alpha > 0 && options.alpha <= 1, at(where / "alpha"), options.alpha,
         "above 0 and up to 1");
  expect(std::isfinite(options.beta), at(where / "beta"), options.beta, "a finite number");
}

at::Tensor contrastive_decode_fn(const at::Tensor& expert_logits, const at::Tensor& amateur_logits,
                                 const ContrastiveDecodeOptions& options) {
  require(expert_logits.sizes() == amateur_logits.sizes(),
          fmt::format("contrastive decoding: the expert's logits are {} and the amateur's {}",
                      fmt::join(expert_logits.sizes(), " x "),
                      fmt::join(amateur_logits.sizes(), " x ")));
  const auto cutoff = expert_logits.amax(-1, /*keepdim=*/true) + std::log(options.alpha);
  const auto contrast = (1 + options.beta) * expert_logits - options.beta * amateur_logits;
  return contrast.masked_fill(expert_logits < cutoff, std::numeric_limits<float>::lowest());
}

}  // namespace x_transformers
