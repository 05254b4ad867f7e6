// What wrappers need of a net over continuous values: rows of features in, the next ones out.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "x_transformers/models/sequence_net.h"

namespace x_transformers {

/// The inputs of one call. `layers` goes on to the stack, but for its x, mask, mems, mem_masks,
/// pos, seq_start_pos and cache.
struct ContinuousInputs : SequenceInputs {
  at::Tensor x;             ///< [b, n, dim_in]; with a cache the new ones
  at::Tensor lens;          ///< [b] int64: how many of each row exist, in place of a mask
  at::Tensor prepend_mask;  ///< [b, m] bool: which prepended embeddings exist
  at::Tensor sum_embeds;    ///< [b, n, dim], added to the embeddings
  /// [b] int64: embedded positions count from here. As in Python nothing is hidden by it: a mask
  /// hides padding.
  at::Tensor seq_start_pos;
  bool project = true;  ///< apply the output projection

  /// The inputs of a call for these tokens {x} alone.
  void set_tokens(const std::vector<at::Tensor>& tokens) { x = tokens.at(0); }

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v);
};

template <class Self, class Visitor>
void ContinuousInputs::fields(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  sequence_fields(self, v);
  // Of a sequence that grows, what it hides goes on.
  v("lens", self.lens, {.kind = integer, .axes = {batch}, .beside_cache = BesideCache::whole});
  v("pos", self.pos,
    {.kind = integer,
     .axes = {optional(batch), tokens},
     .fit = Fit::by_rule,
     .beside_cache = BesideCache::cut});
  v("sum_embeds", self.sum_embeds,
    {.kind = floating,
     .axes = {batch, tokens, emb_dim},
     .fit = Fit::broadcast,
     .beside_cache = BesideCache::cut});
  v("prepend_mask", self.prepend_mask,
    {.kind = boolean, .axes = {batch, prepended}, .beside_cache = BesideCache::first});
  v("seq_start_pos", self.seq_start_pos, {.kind = integer, .axes = {batch}});
  // The model sets these, or keeps them to itself.
  v.nested(self.layers, {"mask", "mems", "mem_masks", "pos", "seq_start_pos"});
}

struct ContinuousOutput : SequenceOutput {
  /// [b, n, dim_out], one for each prepended embedding too; probabilistic [2, b, n, dim_out], means
  /// and variances; pooled [b, dim_out] or [2, b, dim_out]. Undefined unless projected.
  at::Tensor out;

  /// What decoding reads.
  std::array<at::Tensor*, 1> decoded() { return {&out}; }
};

/// A net over vectors of features in place of tokens.
class ContinuousNet : public SequenceNet<ContinuousInputs, ContinuousOutput> {
 public:
  /// Features of the input; empty where a module from the options decides.
  virtual std::optional<int64_t> dim_in() const = 0;
  /// Features of the output (of a mean, if probabilistic); empty as above.
  virtual std::optional<int64_t> dim_out() const = 0;
  /// Whether it gives a mean and a variance of each feature.
  virtual bool is_probabilistic() const = 0;
  /// Whether it gives one output of a whole sequence (average_pool_embed).
  virtual bool pools() const = 0;
};

}  // namespace x_transformers
