// Several processes that train one model together, and which of them this one is.
#pragma once

#include <cstdint>

namespace x_transformers {

/// A process's place among those that train one model: its number and how many there are. Each
/// takes its share of every batch; rank 0 writes the run's files and reports.
struct WorldPlace {
  int64_t rank = 0;   ///< from 0 to world - 1
  int64_t world = 1;  ///< processes in all

  bool is_first() const { return rank == 0; }
};

}  // namespace x_transformers
