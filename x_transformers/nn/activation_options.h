// Options of activations that have some.
#pragma once

#include <cstdint>
#include <optional>

namespace x_transformers {

/// torch.nn.Softmax and its kin.
struct SoftmaxOptions {
  /// the dimension whose entries sum to one; default: torch's choice
  std::optional<int64_t> dim = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v("dim", dim, "the dimension whose entries sum to one; default: torch's choice");
  }
};

}  // namespace x_transformers
