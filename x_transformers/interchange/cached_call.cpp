#include "x_transformers/interchange/cached_call.h"

#include <ATen/ATen.h>

#include "x_transformers/core/tensor_check.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {

void drop_prepended(const at::Tensor& x, const NewTokens& tokens, at::Tensor& mask,
                    at::Tensor& prepend_embeds, at::Tensor& prepend_mask) {
  if (prepend_mask.defined() && prepend_embeds.defined()) {
    require_tensor(prepend_mask, "prepend_mask", TensorKind::boolean,
                   {{"batch", x.size(0), true}, {"prepended", prepend_embeds.size(1)}});
    const auto count = tokens.all - tokens.prefix;
    const auto of_tokens = mask.defined() ? pad_mask_left(mask, count - mask.size(-1))
                                          : at::ones({1, count}, x.options().dtype(at::kBool));
    const auto joined = cat_rows(prepend_mask, of_tokens, 1);
    mask = pad_mask_left(joined, tokens.all - joined.size(1));
  }
  prepend_embeds = prepend_mask = at::Tensor();
}

}  // namespace x_transformers
