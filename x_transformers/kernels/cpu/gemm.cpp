#include "x_transformers/kernels/cpu/gemm.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "x_transformers/kernels/cpu/gemm_tiles.h"
#include "x_transformers/kernels/cpu/isa.h"
#include "x_transformers/kernels/cpu/scratch.h"

namespace x_transformers::kernels {
namespace {

constexpr int64_t kPanel = 16;  // rows of a tile
constexpr int64_t kBlock = 2 * kPanel;
constexpr int64_t kStep = 32;  // k of a tile
// A part of b that stays in the second-level cache while panels of a pass by. Slices have no more
// steps, so that what was packed is read while the caches still hold it.
constexpr int64_t kMaxSteps = 384 / kStep;
constexpr int64_t kCachedColumns = 512;
// Packed operands beyond this are packed in slices.
constexpr int64_t kMaxPackedBytes = int64_t{24} << 20;

int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

/// A slice of the product, with both operands packed: [panel][step][part] tiles.
struct Slice {
  int64_t row = 0, rows = 0, column = 0, columns = 0, step = 0, steps = 0;
};

/// Rows of a or columns of b.
struct Lines {
  const float* data = nullptr;
  int64_t line_stride = 0;
  int64_t k_stride = 0;
  int64_t lines = 0;
};

int64_t out_stride_of(const GemmParams& params) {
  return params.out_stride == 0 ? params.n : params.out_stride;
}

using PackTile = void (*)(const PackSource&, uint16_t*);

class PackedGemm {
 public:
  explicit PackedGemm(const GemmParams& params)
      : params_(params),
        out_stride_(out_stride_of(params)),
        tiles_(tile_kernels(params.precision)),
        rows_{params.a.data, params.a.row_stride, params.a.column_stride, params.m},
        columns_{params.b.data, params.b.column_stride, params.b.row_stride, params.n} {}

  void run() {
    const int64_t steps = ceil_div(params_.k, kStep);
    const int64_t slice_steps = ceil_div(steps, ceil_div(steps, kMaxSteps));
    const int64_t panel_bytes = slice_steps * tiles_.parts * kTileBytes;
    const int64_t most = std::max<int64_t>(1, kMaxPackedBytes / panel_bytes / 2) * kBlock;
    if (is_a_packed()) {
      a_ = scratch<struct PackedA>(std::min(ceil_div(params_.m, kBlock) * kBlock, most) / kPanel *
                                   panel_bytes);
    }
    b_ = scratch<struct PackedB>(std::min(ceil_div(params_.n, kBlock) * kBlock, most) / kPanel *
                                 panel_bytes);
    Slice slice;
    for (slice.step = 0; slice.step < steps; slice.step += slice_steps) {
      slice.steps = std::min(slice_steps, steps - slice.step);
      for (slice.row = 0; slice.row < params_.m; slice.row += most) {
        slice.rows = std::min(most, params_.m - slice.row);
        if (is_a_packed()) pack(slice, rows_, a_, slice.row, slice.rows, tiles_.pack_a);
        for (slice.column = 0; slice.column < params_.n; slice.column += most) {
          slice.columns = std::min(most, params_.n - slice.column);
          pack(slice, columns_, b_, slice.column, slice.columns, tiles_.pack_b);
          multiply(slice);
        }
      }
    }
  }

 private:
  template <class Use>
  static uint16_t* scratch(int64_t bytes) {
    return reinterpret_cast<uint16_t*>(
        thread_scratch<Use>(bytes / static_cast<int64_t>(sizeof(float))));
  }

  uint16_t* panel(uint16_t* packed, int64_t index, const Slice& slice, int64_t step = 0) const {
    return packed + (index * slice.steps + step) * tiles_.parts * kTileEntries;
  }

  void pack_tile(const Lines& source, int64_t line, int64_t step, PackTile pack,
                 uint16_t* tiles) const {
    PackSource tile;
    tile.data = source.data + line * source.line_stride + step * kStep * source.k_stride;
    tile.is_k_dense = source.k_stride == 1;
    tile.stride = tile.is_k_dense ? source.line_stride : source.k_stride;
    tile.lines = std::clamp<int64_t>(source.lines - line, 0, kPanel);
    tile.k = std::min(kStep, params_.k - step * kStep);
    pack(tile, tiles);
  }

  /// Packs a slice of an operand that has `lines` lines from `first_line` on; whole blocks, 0
  /// beyond the edges.
  void pack(const Slice& slice, const Lines& source, uint16_t* packed, int64_t first_line,
            int64_t lines, PackTile pack) const {
    const int64_t panels = ceil_div(lines, kBlock) * 2;
    // In the order of the memory that is read.
    const bool by_panel = source.k_stride == 1;
    const int64_t outer_end = by_panel ? panels : slice.steps,
                  inner_end = by_panel ? slice.steps : panels;
    at::parallel_for(0, outer_end, 1, [&](int64_t begin, int64_t end) {
      for (int64_t outer = begin; outer < end; ++outer) {
        for (int64_t inner = 0; inner < inner_end; ++inner) {
          const int64_t index = by_panel ? outer : inner, step = by_panel ? inner : outer;
          pack_tile(source, first_line + index * kPanel, slice.step + step, pack,
                    panel(packed, index, slice, step));
        }
      }
    });
  }

  /// Blocks in tasks of one block of rows and as many columns as the cache holds; a thread takes
  /// neighbouring tasks.
  void multiply(const Slice& slice) {
    const int64_t row_blocks = ceil_div(slice.rows, kBlock);
    const int64_t groups = ceil_div(slice.columns, kCachedColumns);
    at::parallel_for(0, row_blocks * groups, 1, [&](int64_t begin, int64_t end) {
      tiles_.begin();
      for (int64_t task = begin; task < end; ++task) {
        multiply_rows(slice, task % row_blocks * kBlock, task / row_blocks * kCachedColumns);
      }
      tiles_.end();
    });
  }

  void multiply_rows(const Slice& slice, int64_t row, int64_t first_column) const {
    TileBlock block;
    block.steps = slice.steps;
    block.is_first = slice.step == 0 && !params_.adds;
    block.rows = std::min(kBlock, params_.m - slice.row - row);
    block.out_stride = out_stride_;
    if (is_a_packed()) {
      block.a = panel(a_, row / kPanel, slice);
    } else {
      block.a = pack_rows(slice, row);
    }
    block.a_stride = block.b_stride = slice.steps * tiles_.parts * kTileEntries;
    const int64_t last_column = std::min(slice.columns, first_column + kCachedColumns);
    for (int64_t column = first_column; column < last_column; column += kBlock) {
      const int64_t out_column = slice.column + column;
      block.b = panel(b_, column / kPanel, slice);
      block.columns = std::min(kBlock, params_.n - out_column);
      block.bias = params_.bias == nullptr ? nullptr : params_.bias + out_column;
      block.out = params_.out + (slice.row + row) * out_stride_ + out_column;
      tiles_.multiply(block);
    }
  }

  /// A block of rows in memory of this thread, which its cache still holds when the rows are
  /// multiplied.
  const uint16_t* pack_rows(const Slice& slice, int64_t row) const {
    auto* packed = scratch<struct PackedRows>(2 * kMaxSteps * tiles_.parts * kTileBytes);
    for (int64_t index = 0; index < 2; ++index) {
      for (int64_t step = 0; step < slice.steps; ++step) {
        pack_tile(rows_, slice.row + row + index * kPanel, slice.step + step, tiles_.pack_a,
                  panel(packed, index, slice, step));
      }
    }
    return packed;
  }

  /// Where rows are dense, packing a few at a time reads few memory pages; else all are packed at
  /// once.
  bool is_a_packed() const { return rows_.k_stride != 1; }

  const GemmParams& params_;
  const int64_t out_stride_;
  const TileKernels& tiles_;
  const Lines rows_;
  const Lines columns_;
  uint16_t* a_ = nullptr;
  uint16_t* b_ = nullptr;
};

}  // namespace

bool can_gemm() { return current_isa() == Isa::avx512 && has_tiles(); }

void gemm(const GemmParams& params) {
  if (params.m == 0 || params.n == 0) return;
  if (params.k > 0) {
    PackedGemm(params).run();
    return;
  }
  if (params.adds) return;
  for (int64_t i = 0; i < params.m; ++i) {
    float* row = params.out + i * out_stride_of(params);
    for (int64_t j = 0; j < params.n; ++j) row[j] = params.bias == nullptr ? 0.0f : params.bias[j];
  }
}

}  // namespace x_transformers::kernels
