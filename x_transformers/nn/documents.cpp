#include "x_transformers/nn/documents.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"

namespace x_transformers {

Documents::Documents(const at::Tensor& numbers) {
  require(numbers.is_cpu(), at("documents"), "are read by the host, got a tensor on {}",
          numbers.device().str());
  const auto rows = numbers.size(0), tokens = numbers.size(1);
  const auto given = numbers.to(at::kLong).contiguous();
  places = at::empty({rows, tokens}, at::kLong);
  left = at::empty({rows, tokens}, at::kLong);
  const auto* number = given.const_data_ptr<int64_t>();
  auto* place = places.mutable_data_ptr<int64_t>();
  auto* after = left.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row) {
    const auto end = (row + 1) * tokens;
    for (int64_t first = row * tokens; first < end;) {
      auto last = first;
      while (last + 1 < end && number[last + 1] == number[first]) ++last;
      for (auto i = first; i <= last; ++i) {
        place[i] = i - first;
        after[i] = last - i;
      }
      lengths.push_back(last + 1 - first);
      first = last + 1;
    }
  }
}

std::vector<at::Tensor> Documents::split(const at::Tensor& t) const {
  // One view of all rows, whose pieces' gradients autograd joins by one copy.
  auto pieces = t.transpose(0, 1).flatten(1, 2).split_with_sizes(lengths, 1);
  for (auto& piece : pieces) piece = piece.unsqueeze(0);
  return pieces;
}

at::Tensor Documents::join(const std::vector<at::Tensor>& pieces) const {
  return at::cat(pieces, 2).squeeze(0).unflatten(1, places.sizes()).transpose(0, 1);
}

}  // namespace x_transformers
