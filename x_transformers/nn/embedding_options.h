// Options of embeddings and of positions that are added to them, in Python's names and defaults.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/options.h"

namespace x_transformers {

struct TokenEmbeddingOptions {
  /// features
  int64_t dim = 0;
  /// size of the vocabulary
  int64_t num_tokens = 0;
  /// vectors of length one
  bool l2norm_embed = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v.required("num_tokens", num_tokens, "size of the vocabulary");
    v("l2norm_embed", l2norm_embed, "vectors of length one");
  }
};

struct AbsolutePositionalEmbeddingOptions {
  /// features
  int64_t dim = 0;
  /// how many positions there are
  int64_t max_seq_len = 0;
  /// vectors of length one
  bool l2norm_embed = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v.required_free("max_seq_len", max_seq_len, "how many positions there are");
    v("l2norm_embed", l2norm_embed, "vectors of length one");
  }
};

struct ScaledSinusoidalEmbeddingOptions {
  /// features, an even number
  int64_t dim = 0;
  /// base of the frequencies
  double theta = 10000.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features, an even number");
    v("theta", theta, "base of the frequencies");
  }
};

}  // namespace x_transformers
