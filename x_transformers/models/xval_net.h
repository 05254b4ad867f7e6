// What wrappers need of a net over tokens and numbers.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "x_transformers/models/sequence_net.h"

namespace x_transformers {

/// The inputs of one call. `layers` goes on to the stack, but for its x, mask, mems, mem_masks, pos
/// and cache.
struct XValInputs : SequenceInputs {
  at::Tensor x;       ///< [b, n] int64; with a cache the new tokens
  at::Tensor x_num;   ///< [b, n]: the number at each numerical token; others are not read. NaN: a
                      ///< number that is not known, embedded as 1 (with python_quirks NaN spreads)
  bool heads = true;  ///< apply the heads

  /// The inputs of a call for these tokens {x, x_num} alone.
  void set_tokens(const std::vector<at::Tensor>& tokens) {
    x = tokens.at(0);
    x_num = tokens.at(1);
  }

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v);
};

template <class Self, class Visitor>
void XValInputs::fields(Self& self, Visitor& v) {
  using enum Axis;
  sequence_fields(self, v);
  v("x_num", self.x_num,
    {.axes = {batch, tokens}, .fit = Fit::by_rule, .beside_cache = BesideCache::cut});
  v("pos", self.pos,
    {.kind = TensorKind::integer,
     .axes = {optional(batch), tokens},
     .fit = Fit::by_rule,
     .beside_cache = BesideCache::cut});
  // The model sets these, or keeps them to itself.
  v.nested(self.layers, {"mask", "mems", "mem_masks", "pos"});
}

/// Of prepended embeddings too.
struct XValOutput : SequenceOutput {
  at::Tensor logits;   ///< [b, n, logits_dim]
  at::Tensor numbers;  ///< [b, n]: the number at each place, if there is one

  /// What decoding reads.
  std::array<at::Tensor*, 2> decoded() { return {&logits, &numbers}; }
};

/// A net over tokens of which one stands for numbers.
class XValNet : public SequenceNet<XValInputs, XValOutput> {
 public:
  /// Tokens that have an embedding, and the one that stands for numbers.
  virtual int64_t num_tokens() const = 0;
  virtual int64_t numerical_token_id() const = 0;
  /// Tokens that have logits.
  virtual TokenLimit predicted_tokens() const = 0;
};

}  // namespace x_transformers
