#include "x_transformers/interchange/token_predictor.h"

#include "x_transformers/core/error.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers {

TokenPredictor& predictor_of(Model& model) {
  auto* predictor = dynamic_cast<TokenPredictor*>(&model);
  if (predictor == nullptr) {
    throw InputError(
        "the model gives no token of a text a probability by those before it. Those that do are " +
        types_with(&ModelType::predicts_tokens) + "; nets over tokens do as they are trained");
  }
  return *predictor;
}

}  // namespace x_transformers
