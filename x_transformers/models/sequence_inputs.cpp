#include "x_transformers/models/sequence_inputs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {

void TransformerCache::reorder(const at::Tensor& entries) {
  layers.reorder(entries);
  if (mask.defined() && mask.size(0) > 1) mask = mask.index_select(0, entries);
}

std::vector<at::Tensor> kept_hiddens(const LayersOutput& layers,
                                     const std::vector<at::Tensor>& before,
                                     const std::optional<int64_t>& most) {
  std::vector<at::Tensor> mems;
  // As many as were given, as in Python.
  const auto count =
      before.empty() ? layers.hiddens.size() : std::min(before.size(), layers.hiddens.size());
  for (size_t i = 0; i < count; ++i) {
    auto mem = layers.hiddens[i];
    if (!before.empty()) {
      // A layer of several residual streams has as many entries of hiddens for each one of x.
      require(
          before[i].size(0) == 1 || before[i].size(0) == mem.size(0), at("return_mems"),
          "beside mems of {} batch entries the layers have hiddens of {}, which cannot follow them",
          before[i].size(0), mem.size(0));
      mem = cat_rows(before[i], mem, -2);
    }
    const auto length = mem.size(-2), kept = std::min(most.value_or(length), length);
    mems.push_back(mem.narrow(-2, length - kept, kept).detach());
  }
  return mems;
}

std::optional<int64_t> kept_memory(int64_t max_mem_len, const Compat& compat) {
  const bool keeps_all = max_mem_len == 0 && compat.meaning().zero_max_mem_len_keeps_all;
  return keeps_all ? std::nullopt : std::optional(max_mem_len);
}

void shift_mems(std::vector<at::Tensor>& mems, int64_t shift_mem_down) {
  const auto count = static_cast<int64_t>(mems.size());
  const auto down = shift_mem_down < 0 ? count + shift_mem_down : shift_mem_down;
  const auto first = static_cast<std::ptrdiff_t>(std::clamp<int64_t>(down, 0, count));
  std::rotate(mems.begin(), mems.begin() + first, mems.end());
}

}  // namespace x_transformers
