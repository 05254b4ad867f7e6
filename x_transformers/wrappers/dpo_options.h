// Options of DPO.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"

namespace x_transformers {

/// Python's arguments beside the model.
struct DPOOptions {
  /// how much a step away from the reference weighs (arXiv:2305.18290)
  double beta = 0.1;
  /// token of padding, which does not count; default: none
  std::optional<int64_t> pad_id = std::nullopt;
  /// Whose numbers the loss has.
  Compat compat = {};

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("beta", beta, "how much a step away from the reference weighs", "arXiv:2305.18290");
    v.free("pad_id", pad_id, "token of padding, which does not count; default: none");
  }
};

/// Throws InputError for impossible options.
void validate(const DPOOptions& options);

}  // namespace x_transformers
