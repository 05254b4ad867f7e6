// What the engines have in common that attend with one query on a static cache.
#pragma once

#include "x_transformers/ops/attend_engine.h"

namespace x_transformers {

struct DecodeParameters {
  double scale = 1.0;
  FilledKeys filled;
};

/// The product, a mask that says no more than which keys are filled, causal, and the softmax.
const KnownStages<DecodeParameters>& decode_stages();

}  // namespace x_transformers
