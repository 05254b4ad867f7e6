#include "x_transformers/generation/align.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/tensor_check.h"

namespace x_transformers {
namespace {

void check_lens(const at::Tensor& prompts, const at::Tensor& lens) {
  require(prompts.dim() >= 2, at("prompts"), "expected [batch, length], got {}",
          how_many(prompts.dim(), "dimension"));
  const bool fits = lens.dim() == 1 && lens.size(0) == prompts.size(0);
  require(fits, at("prompt_lens"), "expected one length for each of {} prompts, got shape {}",
          prompts.size(0), shown(lens.sizes()));
  require(at::isIntegralType(lens.scalar_type(), /*includeBool=*/false), at("prompt_lens"),
          "expected integers");
  if (!lens.is_cpu()) return;
  const auto values = lens.to(at::kLong).contiguous();
  const int64_t length = prompts.size(1);
  for (int64_t row = 0; row < values.size(0); ++row) {
    const int64_t value = values.const_data_ptr<int64_t>()[row];
    if (value < 1 || value > length)
      expect(false, at(list_entry("prompt_lens", static_cast<size_t>(row))), value, "1 to {}",
             length);
  }
}

}  // namespace

PromptBatch join_prompts(const std::vector<at::Tensor>& prompts, int64_t pad_value) {
  require(!prompts.empty(), at("prompts"), "expected at least one, got an empty list");
  std::vector<int64_t> lens;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto& prompt = prompts[i];
    const auto about = at(list_entry("prompts", i));
    expect(prompt.dim() == 1, about, prompt.dim(), "one dimension");
    require(prompt.size(0) > 0, about, "expected at least one token, got none");
    require(at::isIntegralType(prompt.scalar_type(), /*includeBool=*/true), about,
            "expected integers");
    lens.push_back(prompt.size(0));
  }
  const int64_t batch = static_cast<int64_t>(prompts.size());
  const int64_t longest = *std::max_element(lens.begin(), lens.end());
  auto joined = at::full({batch, longest}, pad_value, prompts[0].options().dtype(at::kLong));
  for (int64_t row = 0; row < batch; ++row) {
    joined.select(0, row).narrow(0, 0, lens[row]).copy_(prompts[row]);
  }
  return {joined, at::tensor(lens, at::kLong)};
}

at::Tensor align_right(const at::Tensor& prompts, const at::Tensor& lens,
                       const at::Scalar& pad_value) {
  check_lens(prompts, lens);
  const int64_t batch = prompts.size(0), length = prompts.size(1);
  const auto longs = prompts.options().dtype(at::kLong);
  const auto padding = length - lens.to(longs.device(), at::kLong).unsqueeze(1);
  const auto source = at::arange(length, longs).unsqueeze(0) - padding;  // [batch, length]
  const auto rows = at::arange(batch, longs).unsqueeze(1);
  const auto aligned = prompts.index({rows, source.clamp(0, length - 1)});
  auto is_padding = source < 0;
  while (is_padding.dim() < prompts.dim()) is_padding = is_padding.unsqueeze(-1);
  return aligned.masked_fill(is_padding, pad_value);
}

}  // namespace x_transformers
