#include "x_transformers/kernels/cpu/gemm.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "x_transformers/kernels/cpu/scratch.h"

namespace x_transformers::kernels {
namespace {

struct GemmLoops {
  int64_t (*tile_rows)();
  int64_t (*tile_columns)();
  void (*pack_b_panel)(const Gemm&, int64_t first_k, int64_t depth, int64_t column, float* to);
  void (*multiply_slivers)(const Gemm&, int64_t first_k, int64_t depth, int64_t first, int64_t last,
                           const float* panels, float* memory);
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/gemm_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {
namespace {

constexpr int64_t kMostDepth = 384;   // of a block along k: a panel of B stays near the core
constexpr int64_t kMostSlivers = 16;  // of a block along m: packed A stays in the second cache

int64_t blocks_of(int64_t total, int64_t most) { return (total + most - 1) / most; }

}  // namespace

void gemm(const Gemm& params) {
  const auto& loops = XT_SELECT(kGemmLoops);
  if (params.m == 0 || params.n == 0) return;
  const int64_t tile_rows = loops.tile_rows(), tile_columns = loops.tile_columns();
  const int64_t panels = blocks_of(params.n, tile_columns);
  const int64_t slivers = blocks_of(params.m, tile_rows);
  const int64_t threads = at::get_num_threads();
  // As many blocks for each thread, so that none waits for the others.
  const int64_t blocks = std::min(slivers, threads * blocks_of(slivers, threads * kMostSlivers));
  const int64_t depths = std::max<int64_t>(1, blocks_of(params.k, kMostDepth));
  const int64_t most_depth = blocks_of(params.k, depths);
  float* packed_b = thread_scratch<Gemm>(panels * tile_columns * most_depth);
  for (int64_t d = 0; d < depths; ++d) {
    const int64_t first_k = d * params.k / depths, depth = (d + 1) * params.k / depths - first_k;
    at::parallel_for(0, panels, 4, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        loops.pack_b_panel(params, first_k, depth, i * tile_columns,
                           packed_b + i * tile_columns * depth);
      }
    });
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      struct PackedA;
      const int64_t most_slivers = blocks_of(slivers, blocks);
      float* memory = thread_scratch<PackedA>(most_slivers * tile_rows * depth);
      for (int64_t i = first; i < last; ++i) {
        loops.multiply_slivers(params, first_k, depth, i * slivers / blocks,
                               (i + 1) * slivers / blocks, packed_b, memory);
      }
    });
  }
}

}  // namespace x_transformers::kernels
