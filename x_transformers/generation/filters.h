// What may be drawn: logits of tokens that are ruled out become -inf.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

namespace x_transformers {

/// Keeps the `k` highest logits of `[..., vocab]`, or the share `frac_num_tokens` of them, rounded
/// up, where `k` is absent. Throws InputError unless k >= 1 and frac_num_tokens > 0; above 1
/// it keeps all.
at::Tensor top_k(const at::Tensor& logits, double frac_num_tokens = 0.1,
                 std::optional<int64_t> k = std::nullopt);

/// Keeps the most probable tokens of `[..., vocab]` until their sum passes `thres` (nucleus
/// sampling, arXiv:1904.09751); always at least one, and from 1 on all. Throws InputError
/// unless thres >= 0.
at::Tensor top_p(const at::Tensor& logits, double thres = 0.9);

/// Keeps the tokens of `[..., vocab]` whose probability is at least `min_p_ratio * max_probability
/// ^ min_p_pow`; always at least one. Throws InputError unless min_p_pow >= 0 and 0 <= min_p_ratio
/// <= 1.
at::Tensor top_a(const at::Tensor& logits, double min_p_pow = 2.0, double min_p_ratio = 0.02);

/// Keeps the tokens of `[..., vocab]` whose probability is at least `min_p * max_probability`
/// (arXiv:2407.01082). Throws InputError unless 0 <= min_p <= 1.
at::Tensor min_p(const at::Tensor& logits, double min_p = 0.1);

/// Logits `[..., vocab]` to logits of the same shape, on any device, without reading from it.
using LogitsFilter = std::function<at::Tensor(const at::Tensor&)>;

/// The filter that Python calls by this name with these keyword arguments: "top_k"
/// (frac_num_tokens, k), "top_p" (thres), "top_a" (min_p_pow, min_p_ratio), "min_p" (min_p) or
/// "identity" (none). Throws InputError that gives the nearest known name for an unknown filter or
/// argument, and for an argument out of range.
LogitsFilter logits_filter(const std::string& filter_logits_fn,
                           const std::map<std::string, double>& filter_kwargs = {});

}  // namespace x_transformers
