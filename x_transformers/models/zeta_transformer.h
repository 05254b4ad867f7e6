// Zeta's Transformer.
#pragma once

#include <memory>
#include <optional>

#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/models/zeta_transformer_options.h"
#include "x_transformers/nn/embedding_types.h"

namespace x_transformers {

/// The Transformer of Zeta's documentation: tokens [b, n] to logits [b, n, logits_dim], embedded by
/// any BaseEmbedding. Where the documentation says nothing it is x-transformers'
/// TransformerWrapper, with its parameter names and numbers. Memories (return_mems) keep
/// `max_mem_len` tokens, by default none.
class ZetaTransformerImpl : public TransformerWrapperImpl {
 public:
  /// With the embedding that the options name.
  explicit ZetaTransformerImpl(const ZetaTransformerOptions& options);
  /// With an embedding of one's own, of emb_dim features.
  ZetaTransformerImpl(const ZetaTransformerOptions& options,
                      const std::shared_ptr<BaseEmbedding>& embedding_provider);
  TokenModelTraits traits() const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  ZetaTransformerOptions zeta_options_;
  bool is_embedding_given_ = true;
  int64_t kept_memory_;
};
TORCH_MODULE(ZetaTransformer);

/// What the options tell their embedding_provider.
EmbeddingSizes embedding_sizes(const ZetaTransformerOptions& options);

}  // namespace x_transformers
