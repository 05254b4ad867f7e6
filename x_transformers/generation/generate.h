// Decoding token by token: greedy, sampled, contrastive.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/generation/contrastive.h"
#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/generation/filters.h"

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

/// The filter that the options ask for.
LogitsFilter logits_filter(const GenerateOptions& options);

/// Called after each step with its tokens, [batch] int64 on the CPU (the pad value in texts that
/// are over), and the step's number from 0. Generation stops where it returns true.
using TokenCallback = std::function<bool(const at::Tensor& tokens, int64_t step)>;

/// What is generated from, and with what beside the model.
struct GenerateInputs {
  /// [batch, length] int64, right aligned; [length] is one prompt, [..., length] are several.
  at::Tensor prompts;
  /// [batch]: what stands before the last prompt_lens[i] tokens is padding; undefined: nothing is.
  at::Tensor prompt_lens = {};
  /// Stands after a text's eos.
  int64_t pad_value = 0;
  /// Optional.
  TokenCallback callback = {};
  /// Contrastive decoding against these, one after the other; the filter is then off.
  std::vector<Amateur> amateurs = {};
  /// Optional: instead of the filter that the options name.
  LogitsFilter custom_filter = {};
};

/// Continues the prompts and returns the new tokens only, [batch, n] int64 with n <= seq_len: n is
/// smaller where every text has come to its eos (an eos in the prompt does not count), or the
/// callback has stopped. The device is read once a token where there is an eos_token or a callback,
/// otherwise never. Throws InputError for options out of range, RunError for NaN in logits on the
/// CPU.
at::Tensor generate(DecodingSession& session, const GenerateInputs& inputs,
                    const GenerateOptions& options);

/// The same for the common case.
inline at::Tensor generate(DecodingSession& session, const at::Tensor& prompts,
                           const GenerateOptions& options, int64_t pad_value = 0,
                           TokenCallback callback = {}) {
  return generate(session, GenerateInputs{prompts, {}, pad_value, std::move(callback), {}, {}},
                  options);
}

}  // namespace x_transformers
