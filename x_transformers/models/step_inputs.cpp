#include "x_transformers/models/step_inputs.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"

namespace x_transformers {
namespace {

/// The first `prefix` entries along `dim`, and `count` of those after them from `begin`.
at::Tensor entries(const at::Tensor& t, int64_t dim, int64_t prefix, int64_t begin, int64_t count) {
  if (begin == 0) return t.narrow(dim, 0, prefix + count);
  const auto used = t.narrow(dim, prefix + begin, count);
  return prefix == 0 ? used : at::cat({t.narrow(dim, 0, prefix), used}, dim);
}

/// The entries of `span` along `dim`, counted from the end. A single entry is broadcast.
void cut(at::Tensor& t, int64_t dim, const TokenSpan& span, int64_t prefix, const char* name) {
  if (t.size(dim) == 1) return;
  const auto needed = prefix + span.end();
  require(t.size(dim) >= needed, at(name),
          "has entries for {}, but {} are decoded, and it cannot grow: give one for each "
          "token, prompt and generated",
          how_many(t.size(dim) - prefix, "token"), needed - prefix);
  t = span.has_prefix ? entries(t, dim, prefix, span.begin, span.count)
                      : t.narrow(dim, prefix + span.begin, span.count);
}

/// Both dimensions of pairs of query and key.
void cut_pairs(at::Tensor& t, const TokenSpan& span, const char* name) {
  if (t.dim() < 2) return;
  // Columns of memories stand in front of those of the sequence.
  const auto memory = t.size(-2) > 1 ? std::max<int64_t>(t.size(-1) - t.size(-2), 0) : 0;
  cut(t, -1, span, span.prefix + memory, name);
  cut(t, -2, span, span.prefix, name);
}

/// A mask [b, n] of the first step's tokens with what came since, without what the step cannot see.
void grow_mask(at::Tensor& mask, const TokenSpan& span) {
  if (mask.dim() != 2) return;
  if (mask.size(1) == 1 && span.prompt != 1) return;  // a single entry is broadcast
  const auto grown = std::max<int64_t>(span.end() - span.prompt, 0);
  if (grown > 0) mask = at::constant_pad_nd(mask, {0, grown}, 1);
  const auto prefix = mask.size(1) - span.end();
  if (span.window > 0 && prefix >= 0)
    mask = entries(mask, 1, prefix, span.window, span.end() - span.window);
}

/// Whether a tensor of the model's or its stack's is `is_wanted`.
template <class IsWanted>
bool any_tensor(const TransformerInputs& inputs, IsWanted is_wanted) {
  bool result = false;
  each_input_within(inputs, [&](const char*, const at::Tensor& t, const InputField& field) {
    result = result || is_wanted(t, field);
  });
  return result;
}

}  // namespace

void cut_to_step(at::Tensor& t, const char* name, const InputField& field, const TokenSpan& span) {
  const auto kind = field.beside_cache;
  if (kind == BesideCache::grown || kind == BesideCache::held) {
    grow_mask(t, span);
  } else if (find_axis(t, field, Axis::keys) != 0) {
    cut_pairs(t, span, name);
  } else if (const auto dim = find_axis(t, field, Axis::tokens); dim != 0) {
    cut(t, dim, span, span.prefix, name);
  } else if (const auto outputs = find_axis(t, field, Axis::outputs); outputs != 0) {
    cut(t, outputs, span, span.prepended, name);
  }
}

bool has_mems_of_two_lengths(const std::vector<at::Tensor>& mems, size_t attentions) {
  const auto length = [](const at::Tensor& mem) {
    return mem.defined() && mem.dim() == 3 ? mem.size(1) : 0;
  };
  if (mems.empty()) return false;
  const auto first = length(mems.front());
  return (mems.size() < attentions && first > 0) ||
         std::any_of(mems.begin(), mems.end(),
                     [&](const at::Tensor& mem) { return length(mem) != first; });
}

bool is_about_tokens(const TransformerInputs& inputs) {
  return any_tensor(inputs, [](const at::Tensor& t, const InputField& field) {
    const auto kind = field.beside_cache;
    if (kind == BesideCache::cut) return has_entry_for_each_token(t, field);
    return kind != BesideCache::kept && kind != BesideCache::first;
  });
}

}  // namespace x_transformers
