#include "x_transformers/interchange/labelled_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/ignored_target.h"
#include "x_transformers/core/json.h"
#include "x_transformers/nn/losses.h"

namespace x_transformers {
namespace {

/// The result of a forward of all of a batch but for one tensor.
Value forward_without(Model& model, TensorMap inputs, const std::string& answer) {
  inputs.erase(answer);
  Arguments arguments(std::move(inputs), Json::object(), ArgumentSource::checked, model.compat());
  auto result = model.call("forward", arguments);
  arguments.finish();
  return result;
}

}  // namespace

at::Tensor labelled_loss(Model& model, const TensorMap& batch) {
  const at::Tensor& labels = batch.at("labels");
  const at::Tensor logits = forward_without(model, batch, "labels").tensor;
  require(logits.defined() && logits.dim() >= 1, at("labels"),
          "the model gives no logits, or more than logits");
  return label_loss(logits, labels);
}

at::Tensor target_loss(Model& model, const TensorMap& batch) {
  const at::Tensor& target = batch.at("target");
  const auto results = forward_without(model, batch, "target").flatten();
  const auto found = std::find_if(results.begin(), results.end(), [](const auto& result) {
    return result.second.is_floating_point();
  });
  require(found != results.end(), at("target"), "the model gives no numbers");
  return square_loss(found->second, target);
}

at::Tensor answered_loss(Model& model, const TensorMap& batch) {
  if (batch.contains("labels")) return labelled_loss(model, batch);
  require(batch.contains("target"),
          "the model's forward gives no loss, and the batch has neither labels nor target");
  return target_loss(model, batch);
}

LossInputs answered_inputs(std::vector<int64_t> sizes, std::optional<int64_t> classes,
                           const OptionPath& counted_by) {
  LossInput labels{.name = "labels", .kind = LossInputKind::ids, .is_needed = false};
  labels.sizes = sizes;
  labels.count = classes;
  labels.counted_by = counted_by;
  labels.ignored = kIgnoredTarget;
  LossInput target{.name = "target", .kind = LossInputKind::numbers, .is_needed = false};
  sizes.push_back(classes.value_or(-1));
  target.sizes = std::move(sizes);
  return {.tensors = {std::move(labels), std::move(target)}, .answers = {"labels", "target"}};
}

}  // namespace x_transformers
