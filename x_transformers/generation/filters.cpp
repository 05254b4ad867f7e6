#include "x_transformers/generation/filters.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/nearest_name.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/ops/keep_likely.h"

namespace x_transformers {
namespace {

constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

using Kwargs = std::map<std::string, double>;

void require_within(const OptionPath& name, double value, double low, double high) {
  expect(value >= low && value <= high, at(name), value, "{} to {}", low, high);
}

/// -inf where the probability is below `limit` ([..., 1]).
at::Tensor keep_probable(const at::Tensor& logits, const at::Tensor& probs,
                         const at::Tensor& limit) {
  return logits.masked_fill(probs < limit, kNegativeInfinity);
}

const std::map<std::string, std::vector<std::string>>& known_kwargs() {
  static const std::map<std::string, std::vector<std::string>> known = {
      {"identity", {}},
      {"min_p", {"min_p"}},
      {"top_a", {"min_p_pow", "min_p_ratio"}},
      {"top_k", {"frac_num_tokens", "k"}},
      {"top_p", {"thres"}},
  };
  return known;
}

void check_names(const std::string& name, const Kwargs& kwargs) {
  const auto known = known_kwargs().find(name);
  if (known == known_kwargs().end()) {
    std::vector<std::string> names;
    for (const auto& entry : known_kwargs()) names.push_back(entry.first);
    detail::unknown("filter_logits_fn", "filter", name, names);
  }
  const auto& names = known->second;
  for (const auto& [key, value] : kwargs) {
    if (std::find(names.begin(), names.end(), key) != names.end()) continue;
    Notice notice{at(OptionPath("filter_kwargs") / key),
                  fmt::format("{} takes [{}]", name, fmt::join(names, ", "))};
    notice.hint = nearest_hint(key, names);
    throw InputError(std::move(notice));
  }
}

double value_or(const Kwargs& kwargs, const char* name, double otherwise) {
  const auto found = kwargs.find(name);
  return found == kwargs.end() ? otherwise : found->second;
}

std::optional<int64_t> whole_number(const Kwargs& kwargs, const char* name) {
  const auto found = kwargs.find(name);
  if (found == kwargs.end()) return std::nullopt;
  const double value = found->second;
  const bool is_whole = std::abs(value) < 1e15 && value == std::floor(value);
  expect(is_whole, at(OptionPath("filter_kwargs") / name), value, "an integer");
  return static_cast<int64_t>(value);
}

LogitsFilter bind(const std::string& name, const Kwargs& kwargs) {
  if (name == "top_k") {
    return [frac = value_or(kwargs, "frac_num_tokens", 0.1), k = whole_number(kwargs, "k")](
               const at::Tensor& logits) { return top_k(logits, frac, k); };
  }
  if (name == "top_p") {
    return [thres = value_or(kwargs, "thres", 0.9)](const at::Tensor& logits) {
      return top_p(logits, thres);
    };
  }
  if (name == "top_a") {
    return [power = value_or(kwargs, "min_p_pow", 2.0),
            ratio = value_or(kwargs, "min_p_ratio", 0.02)](const at::Tensor& logits) {
      return top_a(logits, power, ratio);
    };
  }
  if (name == "min_p") {
    return [share = value_or(kwargs, "min_p", 0.1)](const at::Tensor& logits) {
      return min_p(logits, share);
    };
  }
  return [](const at::Tensor& logits) { return logits; };
}

}  // namespace

at::Tensor top_k(const at::Tensor& logits, double frac_num_tokens, std::optional<int64_t> k) {
  const int64_t num_tokens = logits.size(-1);
  if (k) {
    expect(*k >= 1, at(OptionPath("top_k") / "k"), *k, "at least 1");
  } else {
    expect(frac_num_tokens > 0, at(OptionPath("top_k") / "frac_num_tokens"), frac_num_tokens,
           "above 0");
    const auto part = std::min(frac_num_tokens, 1.0);
    k = static_cast<int64_t>(std::ceil(part * static_cast<double>(num_tokens)));
  }
  return keep_likely(logits, {.count = *k});
}

at::Tensor top_p(const at::Tensor& logits, double thres) {
  expect(thres >= 0, at(OptionPath("top_p") / "thres"), thres, "0 or more");
  return keep_likely(logits, {.share = thres});
}

at::Tensor top_a(const at::Tensor& logits, double min_p_pow, double min_p_ratio) {
  require_within(OptionPath("top_a") / "min_p_pow", min_p_pow, 0,
                 std::numeric_limits<double>::max());
  require_within(OptionPath("top_a") / "min_p_ratio", min_p_ratio, 0, 1);
  const auto probs = logits.softmax(-1);
  const auto max_probs = probs.amax(-1, /*keepdim=*/true);
  // Below a power of 1 the limit can pass the highest probability, which would leave nothing.
  const auto limit = at::minimum(max_probs.pow(min_p_pow) * min_p_ratio, max_probs);
  return keep_probable(logits, probs, limit);
}

at::Tensor min_p(const at::Tensor& logits, double min_p) {
  require_within(OptionPath("min_p") / "min_p", min_p, 0, 1);
  const auto probs = logits.softmax(-1);
  return keep_probable(logits, probs, min_p * probs.amax(-1, /*keepdim=*/true));
}

LogitsFilter logits_filter(const std::string& filter_logits_fn,
                           const std::map<std::string, double>& filter_kwargs) {
  check_names(filter_logits_fn, filter_kwargs);
  auto filter = bind(filter_logits_fn, filter_kwargs);
  // Values out of range are refused here rather than at the first token, as the caller gave them.
  const auto given = [&](const OptionPath& path) {
    const bool is_argument = !path.empty() && path.front() == filter_logits_fn;
    return is_argument ? path.with_front("filter_kwargs") : path;
  };
  spelled(spelled_by(given), [&] { filter(at::zeros({1, 1})); });
  return filter;
}

}  // namespace x_transformers
