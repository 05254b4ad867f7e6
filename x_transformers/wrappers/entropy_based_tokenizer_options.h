// Options of EntropyBasedTokenizer.
#pragma once

#include <cstdint>
#include <optional>

namespace x_transformers {

/// Python's arguments beside the decoder.
struct EntropyBasedTokenizerOptions {
  /// a position ends a token where the entropy of what follows is as high, in nats
  /// (arXiv:2412.09871)
  double entropy_threshold = 0.0;
  /// longer tokens are cut; default: none
  std::optional<int64_t> max_token_size = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("entropy_threshold", entropy_threshold,
               "a position ends a token where the entropy of what follows is as high, in nats",
               "arXiv:2412.09871");
    v("max_token_size", max_token_size, "longer tokens are cut; default: none");
  }
};

}  // namespace x_transformers
