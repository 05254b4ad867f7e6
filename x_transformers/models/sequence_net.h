// What decoding and wrappers need of a net whose stack runs on embeddings of its own. A net over
// tokens alone is a TokenModel.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <optional>
#include <string>

#include "x_transformers/core/parts.h"
#include "x_transformers/core/token_limit.h"
#include "x_transformers/models/embedded_sequence.h"
#include "x_transformers/models/sequence_inputs.h"
#include "x_transformers/nn/sight_owner.h"

namespace x_transformers {

/// A net with inputs and outputs that extend SequenceInputs and SequenceOutput. Wrappers hold one
/// that they need not have built.
template <class InputsType, class OutputType>
class SequenceNet : public torch::nn::Module, public NamedPart, public SightOwner {
 public:
  using Inputs = InputsType;
  using Output = OutputType;

  /// Throws InputError for inputs that do not fit the options.
  virtual Output forward(const Inputs& inputs) = 0;
  /// Entries of a sequence that it sees at most; 0: any number.
  virtual int64_t max_seq_len() const = 0;
  /// The positions that have an embedding; empty: any.
  virtual std::optional<TokenLimit> embedded_positions() const = 0;
  /// Whether no entry sees later ones.
  virtual bool is_causal() const = 0;
  int64_t memory_tokens() const override = 0;
  /// Why a sequence with these inputs cannot be decoded with a cache; empty: it can.
  virtual Text cache_unsupported(const Inputs& inputs) const = 0;
  /// Why its static caches do not give the numbers of growing ones; empty: they do.
  virtual Text static_cache_unsupported() const = 0;
  /// An empty cache, with room for `capacity` entries at once.
  virtual TransformerCache make_cache(int64_t capacity) const = 0;
};

}  // namespace x_transformers
