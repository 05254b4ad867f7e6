#include "x_transformers/core/loss_inputs.h"

#include <utility>

#include "x_transformers/core/spelling.h"

namespace x_transformers {

LossInput respelled(LossInput input, const Spelling& spelling) {
  if (!input.counted_by.empty()) input.counted_by = respelled(input.counted_by, spelling);
  input.limited_by = respelled(input.limited_by, spelling);
  input.reserved_for = respelled(input.reserved_for, spelling);
  return input;
}

LossInputs respelled(LossInputs inputs, const Spelling& spelling) {
  for (auto& input : inputs.tensors) input = respelled(std::move(input), spelling);
  inputs.unsupported = respelled(inputs.unsupported, spelling);
  return inputs;
}

}  // namespace x_transformers
