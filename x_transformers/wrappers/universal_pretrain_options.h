// Options of UniversalPretrainWrapper.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"

namespace x_transformers {

/// Python's arguments beside the model and the generator.
struct UniversalPretrainWrapperOptions {
  /// sequences that are kept; default: 20 batches
  std::optional<int64_t> buffer_size = std::nullopt;
  /// sequences that become noise and constants again in each step
  int64_t num_reset = 20;
  /// sequences that are computed, and learnt from, in a step
  int64_t batch_size = 32;
  /// tokens of a sequence
  int64_t seq_len = 512;
  /// tokens of other sequences that a computation begins with
  int64_t seed_length = 8;
  /// steps after which the generator becomes another one; 0: never
  int64_t reset_turing_machine_every = 0;
  /// the sequences stay on the host, and are not saved with the weights
  bool keep_buffer_on_cpu = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.size("buffer_size", buffer_size, "sequences that are kept; default: 20 batches");
    v.size("num_reset", num_reset, "sequences that become noise and constants again in each step");
    v.size("batch_size", batch_size, "sequences that are computed, and learnt from, in a step");
    v.size("seq_len", seq_len, "tokens of a sequence");
    v.size("seed_length", seed_length, "tokens of other sequences that a computation begins with");
    v("reset_turing_machine_every", reset_turing_machine_every,
      "steps after which the generator becomes another one; 0: never");
    v("keep_buffer_on_cpu", keep_buffer_on_cpu,
      "the sequences stay on the host, and are not saved with the weights");
  }
};

}  // namespace x_transformers
