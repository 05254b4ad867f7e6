#include "x_transformers/wrappers/entropy_based_tokenizer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/wrappers/held_net.h"

namespace x_transformers {
namespace {

/// Sequences [..., n] as rows [b, n].
at::Tensor as_rows(const at::Tensor& seq) {
  require(seq.dim() > 0 && seq.size(-1) > 0 && at::isIntegralType(seq.scalar_type(), false),
          at("seq"), "expected symbols [..., n] of integers, at least one in a sequence");
  return seq.dim() == 1 ? seq.unsqueeze(0) : seq.flatten(0, -2);
}

/// The lengths of the tokens of each row of boundaries [b, n].
std::vector<at::Tensor> lengths_of_rows(const at::Tensor& boundaries) {
  std::vector<at::Tensor> rows;
  const auto ends = at::arange(1, boundaries.size(1) + 1, boundaries.options().dtype(at::kLong));
  const auto begin = at::zeros({1}, ends.options());
  for (const auto& row : boundaries.unbind(0))
    rows.push_back(at::diff(ends.masked_select(row), 1, 0, begin));
  return rows;
}

}  // namespace

at::Tensor token_boundaries(const at::Tensor& entropies, const at::Tensor& lens,
                            const EntropyBasedTokenizerOptions& options) {
  const auto n = entropies.size(1);
  const auto places = at::arange(n, entropies.options().dtype(at::kLong)).unsqueeze(0);
  const auto last = lens.defined() ? lens.to(entropies.device()).unsqueeze(1) - 1
                                   : at::full({1, 1}, n - 1, places.options());
  auto ends = (entropies >= options.entropy_threshold) | (places == last);
  if (options.max_token_size) {
    // Where the token of each position begins: after the latest end before it.
    const auto begins = at::constant_pad_nd(ends, {1, -1}, 0);
    const auto begin = std::get<0>((places * begins).cummax(1));
    ends = ends | ((places - begin + 1) % *options.max_token_size == 0);
  }
  return ends & (places <= last);
}

EntropyBasedTokenizerImpl::EntropyBasedTokenizerImpl(std::shared_ptr<TokenModel> decoder,
                                                     EntropyBasedTokenizerOptions options)
    : options_(std::move(options)), decoder_(std::move(decoder)) {
  hold_net(*this, "decoder", decoder_);
  require_positive(options_.max_token_size, "max_token_size");
}

at::Tensor EntropyBasedTokenizerImpl::entropies(const at::Tensor& seq, TransformerInputs inputs) {
  const Evaluation evaluation(*this);
  inputs.x = seq;
  const auto output = decoder_->forward(inputs);
  expect(output.logits.size() == 1, at("decoder"), output.logits.size(), "one output head");
  const auto& logits = output.logits[0];
  require(logits.dim() == 3 && logits.size(0) == seq.size(0) && logits.size(1) == seq.size(1),
          at("decoder"), "expected logits of each symbol and no others ({} add some)",
          option("prepend_embeds"));
  return logit_entropies(logits);
}

at::Tensor EntropyBasedTokenizerImpl::forward(const at::Tensor& seq, const at::Tensor& lens,
                                              TransformerInputs inputs) {
  const auto rows = as_rows(seq);
  const auto checked = require_lengths(lens, "lens", {"batch", rows.size(0)}, 1, rows.size(1));
  const auto ends = token_boundaries(entropies(rows, std::move(inputs)), checked, options_);
  const auto lengths = at::pad_sequence(lengths_of_rows(ends), /*batch_first=*/true);
  auto sizes = seq.sizes().vec();
  sizes.back() = lengths.size(1);
  return lengths.reshape(sizes);
}

std::vector<std::vector<at::Tensor>> EntropyBasedTokenizerImpl::segment(const at::Tensor& seq,
                                                                        const at::Tensor& lens,
                                                                        TransformerInputs inputs) {
  const auto rows = as_rows(seq);
  const auto lengths = forward(rows, lens, std::move(inputs)).cpu();
  std::vector<std::vector<at::Tensor>> segments;
  for (int64_t row = 0; row < rows.size(0); ++row) {
    auto& own = segments.emplace_back();
    int64_t begin = 0;
    for (int64_t token = 0; token < lengths.size(1); ++token) {
      const auto length = lengths[row][token].item<int64_t>();
      if (length == 0) break;
      own.push_back(rows[row].narrow(0, begin, length));
      begin += length;
    }
  }
  return segments;
}

std::shared_ptr<torch::nn::Module> EntropyBasedTokenizerImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    return std::make_shared<EntropyBasedTokenizerImpl>(cloned_as(decoder_, device), options_);
  });
}

}  // namespace x_transformers
