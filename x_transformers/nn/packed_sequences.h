// Several sequences packed one after the other into one row, with attention within each only.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <utility>

namespace x_transformers {

/// What `flash_pack_seq_kwargs` says of one call: which tokens belong together, and what the
/// flash_attn package's flash_attn_varlen_func takes beside. Sequence r of a row has the queries
/// cu_seqlens_q[r] up to cu_seqlens_q[r + 1] and the keys likewise; tokens after the last boundary
/// make a sequence of their own.
struct PackedSequences {
  at::Tensor cu_seqlens_q,
      cu_seqlens_k;  ///< [s + 1] for all rows, or [b, s + 1]; integers, from 0 and never falling
  std::optional<double> softmax_scale;  ///< in place of dim_head ** -0.5
  double softcap = 0.0;                 ///< scores held within this bound by tanh; 0: no bound
  std::pair<int64_t, int64_t> window_size = {
      -1, -1};              ///< keys seen before and after a query's own place; -1: all
  at::Tensor alibi_slopes;  ///< [h] or [b, h]: scores fall by this with each token of distance

  template <class Self, class Visit>
  static void tensors(Self& self, Visit& visit) {
    for (auto* t : {&self.cu_seqlens_q, &self.cu_seqlens_k, &self.alibi_slopes})
      if (t->defined()) visit(*t);
  }

  /// Which keys each query may see, [1 or b, 1, queries, keys] bool.
  at::Tensor mask(int64_t queries, int64_t keys) const;
  /// What alibi_slopes add to the scores, [1 or b, h, queries, keys]; undefined without.
  at::Tensor bias(int64_t queries, int64_t keys) const;
};

/// Throws InputError, naming the arguments, where the boundaries do not fit each other. Their
/// values are looked at on the CPU only: a device would have to be waited for.
void validate(const PackedSequences& packed, bool causal);

}  // namespace x_transformers
