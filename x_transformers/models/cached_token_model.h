// What sessions of decoding need of a net.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"

namespace x_transformers {

/// A token model that can go on from a cache. A net that implements it is decoded by
/// make_session (models/length_session.h).
class CachedTokenModel : public TokenModel {
 public:
  /// An empty cache, with room for `capacity` tokens at once.
  virtual TransformerCache make_cache(int64_t capacity) const = 0;
  /// Whether Python, of the release that the model means, goes on from its cache beside memories;
  /// where not, it raises, or takes the memories in anew at each step.
  virtual bool python_caches_beside_mems() const { return true; }
  /// Why the model cannot go on from a cache, whatever the inputs; empty: it can.
  virtual Text cache_unsupported() const = 0;
  /// Why the model cannot go on from a cache beside these inputs; empty: it can.
  virtual Text cache_unsupported(const TransformerInputs& inputs) const = 0;
  /// Why a step that goes on from a cache reads other memory than the one before it, apart from its
  /// token; empty: it does not, so static caches can be used.
  virtual Text static_cache_unsupported(const TransformerInputs& inputs) const = 0;
  /// Why prompts of different lengths, padded at the left (seq_start_pos), are not seen each as it
  /// would be alone; empty: they are.
  virtual Text padding_unsupported(const TransformerInputs& inputs) const = 0;
  /// Entries of the stack in front of token 0: memory tokens, and the embeddings prepended.
  virtual int64_t entries_before_tokens(const TransformerInputs& inputs) const = 0;
  /// The logits [b, tokens] that follow the last token, by the first head; `embeddings` [b, n, dim]
  /// are the result of forward with these inputs.
  virtual at::Tensor last_logits(const at::Tensor& embeddings, const TransformerInputs& inputs) = 0;
};

}  // namespace x_transformers
