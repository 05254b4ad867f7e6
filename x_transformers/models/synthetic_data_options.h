// Options of SyntheticDataGenerator.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

struct SyntheticDataGeneratorOptions {
  /// features of a token (arXiv:2506.20057)
  int64_t dim = 0;
  /// tokens of the vocabulary
  int64_t num_tokens = 0;
  /// tokens of a sequence, the last that were generated
  int64_t max_seq_len = 512;
  /// features of the network's state; default: dim
  std::optional<int64_t> hidden_size = std::nullopt;
  /// a GRU in place of an LSTM
  bool use_gru = false;
  /// another network: LSTM, GRU or RNN, or a module from dim to hidden_size features
  std::optional<ModuleSpec> network_klass = std::nullopt;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of a token", "arXiv:2506.20057");
    v.required("num_tokens", num_tokens, "tokens of the vocabulary");
    v.size("max_seq_len", max_seq_len, "tokens of a sequence, the last that were generated");
    v.size("hidden_size", hidden_size, "features of the network's state; default: dim");
    v("use_gru", use_gru, "a GRU in place of an LSTM");
    v("network_klass", network_klass,
      "another network: LSTM, GRU or RNN, or a module from dim to hidden_size features");
  }
};

}  // namespace x_transformers
