// Beam search, plain or stochastic, with ends of sequences and a length penalty.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "x_transformers/generation/beam_search_options.h"
#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/generation/filters.h"

namespace x_transformers {

/// Prompts to continue.
struct BeamSearchInputs {
  /// [batch, length] int64, right aligned; [length] is one prompt, [..., length] are several.
  at::Tensor prompts;
  /// Stands after a beam's eos.
  int64_t pad_value = 0;
  /// Optional: instead of the filter that the options name.
  LogitsFilter custom_filter = {};
};

/// New tokens only, the best beam first: all beams with return_beams_and_scores, else one. Where
/// fewer texts exist than beams, the rest are missing or hold pad values with the score -inf.
struct BeamSearchResult {
  /// [beams, batch, n] int64; prompts [length] give [beams, n].
  at::Tensor beams;
  /// [beams, batch] float32: a beam's log probability over the length penalty.
  at::Tensor scores;

  /// [batch, n]
  at::Tensor best() const { return beams.select(0, 0); }
};

/// Continues each prompt with those texts, out of the most probable ones found, that score highest.
///
/// The session holds the batch's prompts only; beams are made with `reorder`. Without an eos_token
/// this is Python's search (n = seq_len). With one, a beam that ends with an eos among the best
/// `beams` continuations is put aside with its score while others go on; the search ends when none
/// of those can score higher any more, and what has not ended after seq_len tokens competes as it
/// is. n is then the length of the longest beam returned, and the device is read once a token and
/// at the end, otherwise never. Throws InputError for options out of range, RunError for NaN in
/// logits on the CPU.
BeamSearchResult beam_search(DecodingSession& session, const BeamSearchInputs& inputs,
                             const BeamSearchOptions& options);

/// The divisor of scores, ((5 + length) / 6) ^ length_penalty (arXiv:1609.08144, equation 14).
double length_penalty_divisor(int64_t length, double length_penalty);

}  // namespace x_transformers
