// What `gemm` is made of: packing 16 rows or columns of a float32 matrix into bfloat16 tiles, and
// multiplying a block of 32 by 32. A tile is 1 KiB: 16 rows of 32 entries.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/cpu/gemm.h"

namespace x_transformers::kernels {

constexpr int64_t kTileEntries = 512;
constexpr int64_t kTileBytes = 1024;

/// 16 lines (rows of a, columns of b) by 32 values of k of an operand. What lies beyond `lines` and
/// `k` becomes 0.
struct PackSource {
  const float* data = nullptr;
  int64_t stride = 0;       ///< between lines where k is dense, else between values of k
  bool is_k_dense = false;  ///< else the lines lie beside each other
  int64_t lines = 0;
  int64_t k = 0;
};

/// out[up to 32, up to 32] = or += a b, over `steps` steps of 32.
struct TileBlock {
  const uint16_t* a = nullptr;  ///< two panels [step][part] of tiles
  const uint16_t* b = nullptr;
  int64_t a_stride = 0;  ///< entries from the first to the second panel
  int64_t b_stride = 0;
  int64_t steps = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  bool is_first = false;        ///< start from the bias in place of what `out` holds
  const float* bias = nullptr;  ///< [columns], nullptr: none
  float* out = nullptr;
  int64_t out_stride = 0;
};

struct TileKernels {
  int64_t parts = 0;
  void (*pack_a)(const PackSource&, uint16_t* tiles) = nullptr;  ///< a tile [line][k] of each part
  void (*pack_b)(const PackSource&,
                 uint16_t* tiles) = nullptr;  ///< a tile [pair of k][line][2] of each part
  void (*begin)() = nullptr;                  ///< before a thread multiplies
  void (*multiply)(const TileBlock&) = nullptr;
  void (*end)() = nullptr;
};

/// Whether processor and system have tiles; the first call asks the system to let this process use
/// them.
bool has_tiles();

/// Needs `has_tiles()`.
const TileKernels& tile_kernels(GemmPrecision precision);

}  // namespace x_transformers::kernels
