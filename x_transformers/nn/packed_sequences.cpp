#include "x_transformers/nn/packed_sequences.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

/// Where the tokens of a packed row stand, each [1 or b, tokens].
struct Places {
  at::Tensor sequence;  ///< which sequence a token belongs to
  at::Tensor place;     ///< its position from the sequence's start
  at::Tensor length;    ///< how many tokens the sequence has
};

at::Tensor rows(const at::Tensor& boundaries) {
  const auto wide = boundaries.to(at::kLong);
  return wide.dim() == 1 ? wide.unsqueeze(0) : wide;
}

Places places_of(const at::Tensor& boundaries, int64_t tokens) {
  const auto starts = rows(boundaries).contiguous();
  const auto all =
      at::arange(tokens, starts.options()).expand({starts.size(0), tokens}).contiguous();
  const auto ends = starts.narrow(1, 1, starts.size(1) - 1).contiguous();
  Places places;
  places.sequence = at::searchsorted(ends, all, /*out_int32=*/false, /*right=*/true);
  places.place = all - starts.gather(1, places.sequence);
  const auto with_rest = at::constant_pad_nd(ends, {0, 1}, tokens);
  places.length = with_rest.gather(1, places.sequence) - starts.gather(1, places.sequence);
  return places;
}

/// How much later than its query a key stands, with both ends of a sequence aligned: [1 or b,
/// queries, keys].
at::Tensor offsets(const Places& queries, const Places& keys) {
  const auto aligned_queries = queries.place - queries.length,
             aligned_keys = keys.place - keys.length;
  return aligned_keys.unsqueeze(1) - aligned_queries.unsqueeze(2);
}

OptionPath of_packing(const char* name) { return OptionPath("flash_pack_seq_kwargs") / name; }

void check_boundaries(const char* name, const at::Tensor& boundaries) {
  const auto where = at(of_packing(name));
  require(boundaries.defined(), where, "is needed");
  require(boundaries.dim() == 1 || boundaries.dim() == 2, where,
          "expected [sequences + 1] or [batch, sequences + 1]");
  require(!boundaries.is_floating_point(), where, "expected integers");
  require(boundaries.size(-1) >= 2, where, "expected at least two boundaries");
  if (!boundaries.is_cpu()) return;
  const bool is_ordered = boundaries.diff().ge(0).all().item<bool>() &&
                          boundaries.select(-1, 0).eq(0).all().item<bool>();
  require(is_ordered, where, "expected boundaries that begin with 0 and never fall");
}

}  // namespace

at::Tensor PackedSequences::mask(int64_t queries, int64_t keys) const {
  const auto q = places_of(cu_seqlens_q, queries), k = places_of(cu_seqlens_k, keys);
  auto visible = q.sequence.unsqueeze(2) == k.sequence.unsqueeze(1);
  if (window_size.first >= 0) visible = visible & (offsets(q, k) >= -window_size.first);
  if (window_size.second >= 0) visible = visible & (offsets(q, k) <= window_size.second);
  return visible.unsqueeze(1);
}

at::Tensor PackedSequences::bias(int64_t queries, int64_t keys) const {
  if (!alibi_slopes.defined()) return {};
  const auto distance =
      offsets(places_of(cu_seqlens_q, queries), places_of(cu_seqlens_k, keys)).abs();
  const auto slopes = alibi_slopes.dim() == 1 ? alibi_slopes.unsqueeze(0) : alibi_slopes;
  return distance.unsqueeze(1) * -slopes.unsqueeze(-1).unsqueeze(-1);
}

void validate(const PackedSequences& packed, bool causal) {
  check_boundaries("cu_seqlens_q", packed.cu_seqlens_q);
  check_boundaries("cu_seqlens_k", packed.cu_seqlens_k);
  const auto boundaries = among({of_packing("cu_seqlens_q"), of_packing("cu_seqlens_k")});
  require(packed.cu_seqlens_q.sizes() == packed.cu_seqlens_k.sizes(), boundaries,
          "must have one shape");
  const bool are_equal =
      !causal || !packed.cu_seqlens_q.is_cpu() || packed.cu_seqlens_q.equal(packed.cu_seqlens_k);
  require(are_equal, boundaries, "must be equal with causal attention");
  require(packed.softcap >= 0, at(of_packing("softcap")), "expected 0 or more");
  require(packed.softcap == 0 || !packed.alibi_slopes.defined(),
          among({of_packing("softcap"), of_packing("alibi_slopes")}), "at most one of them");
  const auto& slopes = packed.alibi_slopes;
  require(!slopes.defined() || slopes.dim() == 1 || slopes.dim() == 2,
          at(of_packing("alibi_slopes")), "expected [heads] or [batch, heads]");
}

}  // namespace x_transformers
