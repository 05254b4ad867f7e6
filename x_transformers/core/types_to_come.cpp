#include "x_transformers/core/types_to_come.h"

namespace x_transformers {

const std::set<std::string>& types_to_come() {
  static const std::set<std::string> names = {
      // x-transformers 2.31.10
      "AttentionResidual",
      "ContinuousTransformerAutoencoder",
      "DeterministicLatentBottleneck",
      "DiscoverDecoder",
      "EpisodicMemories",
      "EpisodicMemoryWrapper",
      "FullBandwidth",
      "GLUCrossTransition",
      "GRUGatingTransition",
      "GatedMultiResidual",
      "LatentAutoregressive",
      "LinearTransition",
      "LoRALinear",
      "LowRankLinear",
      "MSECosineSimLoss",
      "MVSplitResidualUpdate",
      "NextLatentWrapper",
      "OrthogonalResidualUpdate",
      "Recirculation",
      "RecirculationMixer",
      "RelativeProjPositionalBias",
      "ResidualDynamics",
      "ResidualGLUTransition",
      "ResidualTransition",
      "RolloutGRU",
      "TPREncoder",
      "TTTMetaLearningTargetKLLoss",
      "TTTModuleWrapper",
      "TTTNextLatentPredictionLoss",
      "TransformerBlock",
      "VariationalLatentBottleneck",
      "XMLatentDecoder",
  };
  return names;
}

}  // namespace x_transformers
