#include "x_transformers/interchange/model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/generation/sequence_writer.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/generation/translation_writer.h"
#include "x_transformers/interchange/labelled_loss.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers {

TokenTask respelled(TokenTask task, const Spelling& spelling) {
  task.counted_by = respelled(task.counted_by, spelling);
  task.limited_by = respelled(task.limited_by, spelling);
  if (task.reserved) task.reserved_by = respelled(task.reserved_by, spelling);
  return task;
}

std::vector<OptionPath> Model::option_places() const {
  return option_places_ ? option_places_() : std::vector<OptionPath>();
}

void Model::set_option_places(std::function<std::vector<OptionPath>()> places) {
  option_places_ = std::move(places);
}

SampleCall Model::sample_call(std::optional<int64_t>) {
  throw InputError("no sample call is known of this type");
}

at::Tensor Model::loss(const TensorMap& batch) {
  if (!forward_is_loss()) return answered_loss(*this, batch);
  Arguments arguments(batch, Json::object(), ArgumentSource::checked, compat_);
  const auto results = call("forward", arguments).flatten();
  arguments.finish();
  require(!results.empty() && results[0].second.dim() == 0,
          "forward gives no loss, which is one number: the model cannot be trained on these "
          "tensors alone");
  return results[0].second;
}

LossInputs Model::loss_inputs(const std::set<std::string>&) {
  LossInputs inputs;
  if (!forward_is_loss()) inputs.answers = {"labels", "target"};
  return inputs;
}

void Model::set_loss_chunk(int64_t) {
  throw InputError(Notice{
      at("loss_chunk"),
      "the loss of this type is made of all logits of a batch at once; by chunks of tokens it is "
      "made in " +
          types_with(&ModelType::chunks_loss)});
}

Writer* Model::any_writer() {
  if (auto* tokens = writer()) return tokens;
  if (auto* sequences = sequence_writer()) return sequences;
  return translation_writer();
}

Text Model::capture_unsupported() { return x_transformers::capture_unsupported(module()); }

}  // namespace x_transformers
