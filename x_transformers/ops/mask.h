// Masks. One convention throughout: true means attend; queries stand at the last of the key
// positions (bottom right).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// The keys each query may see when every query sees itself and what lies before it: [i, j] bool, i
/// <= j.
at::Tensor causal_mask(int64_t i, int64_t j, const at::Device& device);

/// The keys that lie at most `max_attend_past` positions before their query: [i, j] bool.
at::Tensor window_mask(int64_t i, int64_t j, int64_t max_attend_past, const at::Device& device);

/// A padding mask [b, j] widened at the left by `count` keys that are always visible (undefined
/// stays undefined).
at::Tensor pad_mask_left(const at::Tensor& mask, int64_t count);

/// What is given for pairs of query and key [..., keys] with an entry for each of `keys`: a single
/// one of the sequence is broadcast to all `sequence_keys`; undefined stays undefined.
at::Tensor spread_over_keys(const at::Tensor& pairs, int64_t sequence_keys, int64_t keys);

/// `a` and `b` joined (both must allow); an undefined mask allows everything.
at::Tensor mask_and(const at::Tensor& a, const at::Tensor& b);

/// What a masked score of this type is set to: its least finite value, so that no later stage makes
/// NaN of it.
double masked_score(at::ScalarType type);

/// Zeros the rows [b, n, d] of x where mask [b, n] is false; x itself where the mask is undefined.
at::Tensor zero_masked_rows(const at::Tensor& x, const at::Tensor& mask);

/// The mean of x [b, n, ...] over the entries n where mask [b, n] is true, 0 where none is; over
/// all where the mask is undefined.
at::Tensor masked_mean(const at::Tensor& x, const at::Tensor& mask);

}  // namespace x_transformers
