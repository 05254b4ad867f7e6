#include "x_transformers/interchange/types_to_come.h"

namespace x_transformers {

const std::set<std::string>& types_to_come() {
  static const std::set<std::string> names = {
      // x-transformers 2.16.1
      "BeliefStateWrapper",
      "BinaryMapper",
      "DPO",
      "DetachMultiple",
      "EntropyBasedTokenizer",
      "FreeTransformer",
      "GPTVAE",
      "Losses",
      "NeoMLP",
      "NonAutoregressiveWrapper",
      "RandomFourierEmbed",
      "SelfCritic",
      "SyntheticDataGenerator",
      "UniversalPretrainWrapper",
      "XLAutoregressiveWrapper",
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
      // FLASH-pytorch and Zeta
      "BaseEmbedding",
      "FLASH",
      "FLASHAutoregressiveWrapper",
      "FLASHRotaryEmbedding",
      "FLASHScaleNorm",
      "FLASHScaledSinuEmbedding",
      "FLASHT5RelativePositionBias",
      "FLASHTransformer",
      "GAU",
      "LaplacianAttnFn",
      "OffsetScale",
      "ZetaTransformer",
  };
  return names;
}

}  // namespace x_transformers
