#include "x_transformers/interchange/token_predictor.h"

#include "x_transformers/core/error.h"
#include "x_transformers/interchange/model.h"

namespace x_transformers {

TokenPredictor& predictor_of(Model& model) {
  auto* predictor = dynamic_cast<TokenPredictor*>(&model);
  require(predictor != nullptr,
          "the model gives no token of a text a probability by those before it. Those that do are "
          "AutoregressiveWrapper (and nets that are trained in it), XLAutoregressiveWrapper, "
          "FLASHAutoregressiveWrapper, BeliefStateWrapper, UniversalPretrainWrapper, GPTVAE, "
          "FreeTransformer, and XTransformer of targets by their sources");
  return *predictor;
}

}  // namespace x_transformers
