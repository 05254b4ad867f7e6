#include "x_transformers/interchange/model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {

SampleCall Model::sample_call(std::optional<int64_t>) {
  throw InputError("no sample call is known of this type");
}

at::Tensor Model::loss(const TensorMap& batch) {
  return run_objective(*this, batch, Json::object(), ArgumentSource::checked);
}

void Model::set_loss_chunk(int64_t) {
  throw InputError("loss_chunk: the loss of this type is not built in chunks of tokens");
}

std::string Model::capture_unsupported() { return x_transformers::capture_unsupported(module()); }

}  // namespace x_transformers
