#include "x_transformers/interchange/labelled_loss.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/ops/loss.h"

namespace x_transformers {
namespace {

constexpr int64_t kIgnored = -100;  // of cross_entropy

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

at::Tensor target_loss(Model& model, const TensorMap& batch) {
  const at::Tensor& target = batch.at("target");
  const auto results = forward_without(model, batch, "target").flatten();
  const auto found = std::find_if(results.begin(), results.end(), [](const auto& result) {
    return result.second.is_floating_point();
  });
  require(found != results.end(), "target: the model gives no numbers");
  const at::Tensor& given = found->second;
  require(target.is_floating_point() && target.sizes() == given.sizes(),
          fmt::format("target: expected floating-point [{}], as the model's result, got {} [{}]",
                      fmt::join(given.sizes(), ", "), c10::toString(target.scalar_type()),
                      fmt::join(target.sizes(), ", ")));
  return (given.to(at::kFloat) - target.to(at::kFloat)).square().mean();
}

at::Tensor answered_loss(Model& model, const TensorMap& batch) {
  if (batch.contains("labels")) return labelled_loss(model, batch);
  require(batch.contains("target"),
          "the model's forward gives no loss, and the batch has neither labels nor target");
  return target_loss(model, batch);
}

LossInputs answered_inputs(std::vector<int64_t> sizes, std::optional<int64_t> classes,
                           const std::string& counted_by) {
  LossInput labels{.name = "labels", .kind = LossInputKind::ids, .is_needed = false};
  labels.sizes = sizes;
  labels.count = classes;
  labels.counted_by = counted_by;
  labels.ignored = kIgnored;
  LossInput target{.name = "target", .kind = LossInputKind::numbers, .is_needed = false};
  sizes.push_back(classes.value_or(-1));
  target.sizes = std::move(sizes);
  return {.tensors = {std::move(labels), std::move(target)}, .answers = {"labels", "target"}};
}

}  // namespace x_transformers
