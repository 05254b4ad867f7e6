// Beam search, plain or stochastic, with ends of sequences and a length penalty.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/generation/filters.h"

namespace x_transformers {

struct BeamSearchOptions {
  /// tokens to generate at most
  int64_t seq_len = 256;
  /// continuations kept for each prompt
  int64_t beams = 4;
  /// return all beams with their scores, not the best alone
  bool return_beams_and_scores = false;
  /// token that ends a sequence; default: none
  std::optional<int64_t> eos_token;
  /// stochastic search: divides the filtered logits; 0 turns the noise off
  double temperature = 1.0;
  /// choose continuations by logits with Gumbel noise (arXiv:1903.06059)
  bool stochastic = false;
  /// stochastic search: top_k, top_p, top_a, min_p or identity
  std::string filter_logits_fn = "identity";
  /// of filter_logits_fn: frac_num_tokens or k; thres; min_p_pow, min_p_ratio; min_p
  std::map<std::string, double> filter_kwargs;
  /// scores are divided by ((5 + length) / 6) to this power; above 0 favours longer text
  /// (arXiv:1609.08144)
  double length_penalty = 0;
  /// token to what is added to its logit
  std::map<std::string, double> logit_bias;
  /// start of the random numbers; default: the device's own generator
  std::optional<int64_t> seed;

  template <class Visitor>
  void fields(Visitor& v) {
    v("seq_len", seq_len, "tokens to generate at most");
    v("beams", beams, "continuations kept for each prompt");
    v("return_beams_and_scores", return_beams_and_scores,
      "return all beams with their scores, not the best alone");
    v("eos_token", eos_token, "token that ends a sequence; default: none");
    v("temperature", temperature,
      "stochastic search: divides the filtered logits; 0 turns the noise off");
    v("stochastic", stochastic, "choose continuations by logits with Gumbel noise",
      "arXiv:1903.06059");
    v("filter_logits_fn", filter_logits_fn,
      "stochastic search: top_k, top_p, top_a, min_p or identity");
    v("filter_kwargs", filter_kwargs,
      "of filter_logits_fn: frac_num_tokens or k; thres; min_p_pow, min_p_ratio; min_p");
    v("length_penalty", length_penalty,
      "scores are divided by ((5 + length) / 6) to this power; above 0 favours longer text",
      "arXiv:1609.08144");
    v("logit_bias", logit_bias, "token to what is added to its logit");
    v("seed", seed, "start of the random numbers; default: the device's own generator");
  }
};

/// Throws InputError for a value out of range or an unknown filter.
void validate(const BeamSearchOptions& options);

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
/// at the end, otherwise never. Throws
/// InputError for options out of range, RunError for NaN in logits on the CPU.
BeamSearchResult beam_search(DecodingSession& session, const BeamSearchInputs& inputs,
                             const BeamSearchOptions& options);

/// The divisor of scores, ((5 + length) / 6) ^ length_penalty (arXiv:1609.08144, equation 14).
double length_penalty_divisor(int64_t length, double length_penalty);

}  // namespace x_transformers
