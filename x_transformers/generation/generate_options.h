// Options of decoding token by token.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace x_transformers {

/// What happens to the logits of each step, in this order: contrastive decoding, repetition
/// penalty, logit bias, filter, temperature, draw. At temperature 0 the highest logit wins, without
/// filter.
struct GenerateOptions {
  /// tokens to generate at most
  int64_t seq_len = 256;
  /// divides the filtered logits; 0 takes the most probable token
  double temperature = 1.0;
  /// token that ends a sequence; default: none
  std::optional<int64_t> eos_token;
  /// top_k, top_p, top_a, min_p or identity; default: top_k, unless a filter is given by its own
  /// option
  std::optional<std::string> filter_logits_fn;
  /// of filter_logits_fn: frac_num_tokens or k; thres; min_p_pow, min_p_ratio; min_p
  std::map<std::string, double> filter_kwargs;
  /// draw from this many tokens; such filters apply in the order listed here
  std::optional<int64_t> top_k;
  /// draw from the most probable tokens up to this sum (arXiv:1904.09751)
  std::optional<double> top_p;
  /// draw from tokens of at least this times the square of the highest probability
  std::optional<double> top_a;
  /// draw from tokens of at least this times the highest probability (arXiv:2407.01082)
  std::optional<double> min_p;
  /// above 1 makes tokens of the prompt and the text so far less likely (arXiv:1909.05858)
  double repetition_penalty = 1.0;
  /// token to what is added to its logit
  std::map<std::string, double> logit_bias;
  /// start of the random numbers; default: the device's own generator
  std::optional<int64_t> seed;

  template <class Visitor>
  void fields(Visitor& v) {
    v("seq_len", seq_len, "tokens to generate at most");
    v("temperature", temperature, "divides the filtered logits; 0 takes the most probable token");
    v("eos_token", eos_token, "token that ends a sequence; default: none");
    v("filter_logits_fn", filter_logits_fn,
      "top_k, top_p, top_a, min_p or identity; default: top_k, unless a filter is given by its own "
      "option");
    v("filter_kwargs", filter_kwargs,
      "of filter_logits_fn: frac_num_tokens or k; thres; min_p_pow, min_p_ratio; min_p");
    v("top_k", top_k, "draw from this many tokens; such filters apply in the order listed here");
    v("top_p", top_p, "draw from the most probable tokens up to this sum", "arXiv:1904.09751");
    v("top_a", top_a,
      "draw from tokens of at least this times the square of the highest probability");
    v("min_p", min_p, "draw from tokens of at least this times the highest probability",
      "arXiv:2407.01082");
    v("repetition_penalty", repetition_penalty,
      "above 1 makes tokens of the prompt and the text so far less likely", "arXiv:1909.05858");
    v("logit_bias", logit_bias, "token to what is added to its logit");
    v("seed", seed, "start of the random numbers; default: the device's own generator");
  }
};

/// Throws InputError for a value out of range, an unknown filter or two ways of naming one.
void validate(const GenerateOptions& options);

}  // namespace x_transformers
