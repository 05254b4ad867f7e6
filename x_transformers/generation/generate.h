// Decoding token by token: greedy, sampled, contrastive.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "x_transformers/generation/contrastive.h"
#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/generation/filters.h"
#include "x_transformers/generation/generate_options.h"

namespace x_transformers {

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
