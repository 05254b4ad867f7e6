// Changes to logits that depend on the history or the user's wishes, made before filters and
// temperature.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

namespace x_transformers {

/// The repetition penalty of CTRL (arXiv:1909.05858): logits of tokens that the prompt or the
/// generated part of a text holds are divided by the penalty where positive and multiplied by it
/// where negative. Nothing is read from the device.
class RepetitionPenalty {
 public:
  /// `prompts` [batch, length] int64, right aligned; of entry i only the last `prompt_lens[i]`
  /// tokens count, or all where `prompt_lens` is undefined. Throws InputError unless penalty > 0.
  RepetitionPenalty(double penalty, at::Tensor prompts, at::Tensor prompt_lens = {});

  /// The penalised logits [batch, vocab].
  at::Tensor apply(const at::Tensor& logits);
  /// Counts the tokens [batch] that were just generated.
  void add(const at::Tensor& tokens);

 private:
  void count_prompts(const at::Tensor& logits);

  double penalty_;
  at::Tensor prompts_, prompt_lens_;
  at::Tensor seen_;  // [batch, vocab] bool, from the first logits on
};

/// What to add to logits, [vocab] float32, from `logit_bias`: token (as text, for JSON has no other
/// keys) to bias. Throws InputError for a key that is no token below `vocab`, and for NaN and +inf.
at::Tensor logit_bias_tensor(const std::map<std::string, double>& logit_bias, int64_t vocab);

}  // namespace x_transformers
