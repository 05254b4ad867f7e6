// The types of embedding_provider in model files. A C++ user adds their own:
//
//   class HashEmbedding : public BaseEmbedding { ... };
//   register_embedding("HashEmbedding", [](const ModuleSpec& spec, const EmbeddingSizes& sizes) {
//     return std::make_shared<HashEmbedding>(sizes.dim, ...);  // spec.arguments: JSON text
//   });
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "x_transformers/core/options.h"
#include "x_transformers/nn/embeddings.h"

namespace x_transformers {

/// What a model tells its embedding: what an option of the embedding that is not given is.
struct EmbeddingSizes {
  int64_t dim = 0;  ///< features of each embedding, which it must have
  int64_t num_tokens = 0;
  int64_t max_seq_len = 0;  ///< 0: any
  bool l2norm_embed = false;
};

/// Makes an embedding of `spec`; its errors are of the options within it.
using MakeEmbedding =
    std::function<std::shared_ptr<BaseEmbedding>(const ModuleSpec&, const EmbeddingSizes&)>;

/// Makes `type` known to make_embedding. InputError where it is known already.
void register_embedding(const std::string& type, MakeEmbedding make);

/// The embedding that `spec` names: TokenEmbedding, AbsolutePositionalEmbedding,
/// ScaledSinusoidalEmbedding or a registered type. Options that `spec` leaves out are those of
/// `sizes`. InputError for another type, with the nearest known one, and for another `dim`.
std::shared_ptr<BaseEmbedding> make_embedding(const ModuleSpec& spec, const EmbeddingSizes& sizes);

/// `spec` with the options that it leaves out, where it is one of the three types of the library.
ModuleSpec with_sizes(const ModuleSpec& spec, const EmbeddingSizes& sizes);

}  // namespace x_transformers
