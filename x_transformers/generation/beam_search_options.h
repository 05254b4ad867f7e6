// Options of beam search.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

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

}  // namespace x_transformers
