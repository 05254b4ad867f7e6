#include "x_transformers/interchange/labelled_loss.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/ops/loss.h"

namespace x_transformers {

at::Tensor labelled_loss(Model& model, const TensorMap& batch) {
  TensorMap inputs = batch;
  const at::Tensor labels = inputs.extract("labels").mapped();
  Arguments arguments(inputs, Json::object(), ArgumentSource::checked);
  const at::Tensor logits = model.call("forward", arguments).tensor;
  arguments.finish();
  require(logits.defined() && logits.dim() >= 1,
          "labels: the model gives no logits, or more than logits");
  const auto expected = logits.sizes().slice(0, static_cast<size_t>(logits.dim() - 1));
  if (labels.scalar_type() != at::kLong || labels.sizes() != expected) {
    throw InputError(
        fmt::format("labels: expected int64 [{}], one for each of the logits, got {} [{}]",
                    fmt::join(expected, ", "), c10::toString(labels.scalar_type()),
                    fmt::join(labels.sizes(), ", ")));
  }
  return cross_entropy(logits, labels);
}

}  // namespace x_transformers
