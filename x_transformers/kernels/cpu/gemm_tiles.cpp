#include "x_transformers/kernels/cpu/gemm_tiles.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#if defined(__clang__)
#pragma clang attribute push(                                                                   \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16"))), \
    apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 finds that in its own intrinsics
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")
#endif

namespace x_transformers::kernels {
namespace {

constexpr int kRows = 16;
constexpr int kMaxParts = 3;

/// One tile of each part.
struct Tiles {
  __m512i rows[kMaxParts][kRows];
};

/// x rounded to bfloat16, as a float's bits (halves away from 0).
inline __m512i rounded(__m512 x) {
  const auto up = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
  return _mm512_and_si512(up, _mm512_set1_epi32(-0x10000));
}

inline __m512 rest(__m512 x, __m512i part) { return _mm512_sub_ps(x, _mm512_castsi512_ps(part)); }

/// Row `row` of the tiles of all parts: 32 entries that lie beside each other.
template <int Parts>
inline void split_line(__m512 low, __m512 high, int row, Tiles& tiles) {
  const auto order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
  for (int part = 0; part < Parts; ++part) {
    const auto low_bits = rounded(low), high_bits = rounded(high);
    // packus joins 128-bit lanes in turns.
    const auto joined =
        _mm512_packus_epi32(_mm512_srli_epi32(low_bits, 16), _mm512_srli_epi32(high_bits, 16));
    tiles.rows[part][row] = _mm512_permutexvar_epi64(order, joined);
    low = rest(low, low_bits);
    high = rest(high, high_bits);
  }
}

/// Row `row` of the tiles: pairs of entries, one of `even` and one of `odd`.
template <int Parts>
inline void split_pairs(__m512 even, __m512 odd, int row, Tiles& tiles) {
  for (int part = 0; part < Parts; ++part) {
    const auto even_bits = rounded(even), odd_bits = rounded(odd);
    tiles.rows[part][row] = _mm512_or_si512(_mm512_srli_epi32(even_bits, 16), odd_bits);
    even = rest(even, even_bits);
    odd = rest(odd, odd_bits);
  }
}

/// Transposes 16 by 16 pairs of entries.
inline void transpose(__m512i* r) {
  __m512i t[kRows];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

__mmask16 first(int64_t count) {
  return static_cast<__mmask16>((1u << std::clamp<int64_t>(count, 0, 16)) - 1u);
}

// The same place in what is packed next is fetched early: processors do not foresee steps of this
// size.
inline void prefetch(const float* next) {
  _mm_prefetch(next, _MM_HINT_T1);
  _mm_prefetch(next + 16, _MM_HINT_T1);
}

/// Where k is dense: tiles [line][k].
template <int Parts>
inline void load_lines(const PackSource& source, Tiles& tiles) {
  const auto low = first(source.k), high = first(source.k - 16);
  for (int row = 0; row < kRows; ++row) {
    if (row < source.lines) {
      const float* line = source.data + row * source.stride;
      prefetch(line + kRows * source.stride);
      split_line<Parts>(_mm512_maskz_loadu_ps(low, line), _mm512_maskz_loadu_ps(high, line + 16),
                        row, tiles);
    } else {
      for (int part = 0; part < Parts; ++part) tiles.rows[part][row] = _mm512_setzero_si512();
    }
  }
}

/// Where the lines lie beside each other: tiles [pair of k][line][2].
template <int Parts>
inline void load_pairs(const PackSource& source, Tiles& tiles) {
  const auto lines = first(source.lines);
  for (int row = 0; row < kRows; ++row) {
    const float* even = source.data + 2 * row * source.stride;
    _mm_prefetch(even + 2 * kRows * source.stride, _MM_HINT_T1);
    _mm_prefetch(even + (2 * kRows + 1) * source.stride, _MM_HINT_T1);
    split_pairs<Parts>(
        _mm512_maskz_loadu_ps(2 * row < source.k ? lines : __mmask16{0}, even),
        _mm512_maskz_loadu_ps(2 * row + 1 < source.k ? lines : __mmask16{0}, even + source.stride),
        row, tiles);
  }
}

template <int Parts, bool IsB>
void pack(const PackSource& source, uint16_t* out) {
  Tiles tiles;
  source.is_k_dense ? load_lines<Parts>(source, tiles) : load_pairs<Parts>(source, tiles);
  for (int part = 0; part < Parts; ++part, out += kTileEntries) {
    if (source.is_k_dense == IsB) transpose(tiles.rows[part]);
    for (int row = 0; row < kRows; ++row) _mm512_store_si512(out + row * 32, tiles.rows[part][row]);
  }
}

// Tiles 0 to 3 hold the block [2][2] of sums, 4 and 5 a, 6 and 7 b. A load comes as late as can be,
// so that it hides behind the products of the other tiles.
inline void load_a0(const uint16_t* tile) { _tile_loadd(4, tile, 64); }
inline void load_a1(const uint16_t* tile) { _tile_loadd(5, tile, 64); }
inline void load_b0(const uint16_t* tile) { _tile_loadd(6, tile, 64); }
inline void load_b1(const uint16_t* tile) { _tile_loadd(7, tile, 64); }

struct Panels {
  const uint16_t* a0;
  const uint16_t* a1;
  const uint16_t* b0;
  const uint16_t* b1;
};

/// Fetches the tiles of the next step into the first-level cache, a few lines beside each product:
/// the processor does not see four streams of tiles coming, least of all where it shares its caches
/// with another thread. What it fetches beyond the last step does no harm.
template <int Parts>
class NextStep {
 public:
  explicit NextStep(const Panels& p) : panels_{p.a0, p.a1, p.b0, p.b1} {}

  __attribute__((always_inline)) void fetch() {
    constexpr int kPanelLines = 16 * Parts, kLines = 4 * kPanelLines;
    constexpr int kProducts = 4 * Parts * (Parts + 1) / 2;
    const int end = (product_ + 1) * kLines / kProducts;
    for (int line = product_ * kLines / kProducts; line < end; ++line) {
      const uint16_t* next = panels_[line / kPanelLines] + Parts * kTileEntries;
      _mm_prefetch(next + line % kPanelLines * 32, _MM_HINT_T0);
    }
    ++product_;
  }

 private:
  const uint16_t* panels_[4];
  int product_ = 0;
};

template <class Next>
inline void multiply_first(const Panels& p, int a_part, int b_part, Next& next) {
  load_b0(p.b0 + b_part * kTileEntries);
  load_a0(p.a0 + a_part * kTileEntries);
  _tile_dpbf16ps(0, 4, 6);
  next.fetch();
  load_a1(p.a1 + a_part * kTileEntries);
  _tile_dpbf16ps(2, 5, 6);
  next.fetch();
  load_b1(p.b1 + b_part * kTileEntries);
  _tile_dpbf16ps(1, 4, 7);
  next.fetch();
  _tile_dpbf16ps(3, 5, 7);
  next.fetch();
}

/// Another part of a with the same part of b.
template <class Next>
inline void multiply_next_a(const Panels& p, int part, Next& next) {
  load_a0(p.a0 + part * kTileEntries);
  _tile_dpbf16ps(0, 4, 6);
  next.fetch();
  _tile_dpbf16ps(1, 4, 7);
  next.fetch();
  load_a1(p.a1 + part * kTileEntries);
  _tile_dpbf16ps(2, 5, 6);
  next.fetch();
  _tile_dpbf16ps(3, 5, 7);
  next.fetch();
}

template <class Next>
inline void multiply_next_b(const Panels& p, int part, Next& next) {
  load_b0(p.b0 + part * kTileEntries);
  _tile_dpbf16ps(0, 4, 6);
  next.fetch();
  _tile_dpbf16ps(2, 5, 6);
  next.fetch();
  load_b1(p.b1 + part * kTileEntries);
  _tile_dpbf16ps(1, 4, 7);
  next.fetch();
  _tile_dpbf16ps(3, 5, 7);
  next.fetch();
}

/// Small products first where the order is free. Left out is what lies below the last bit of a
/// float.
template <int Parts>
inline void multiply_step(const Panels& p) {
  NextStep<Parts> next(p);
  if constexpr (Parts == 3) {
    multiply_first(p, 0, 2, next);
    multiply_next_b(p, 1, next);
    multiply_next_b(p, 0, next);
    multiply_next_a(p, 2, next);
    multiply_next_a(p, 1, next);
    multiply_next_b(p, 1, next);
  } else if constexpr (Parts == 2) {
    multiply_first(p, 0, 1, next);
    multiply_next_b(p, 0, next);
    multiply_next_a(p, 1, next);
  } else {
    multiply_first(p, 0, 0, next);
  }
}

/// 32 by 32, with dense rows or with those of `out`; `stride` in bytes, 0 repeats one row.
inline void load_sums(const float* from, int64_t stride) {
  _tile_loadd(0, from, stride);
  _tile_loadd(1, from + 16, stride);
  _tile_loadd(2, from + 16 * stride / 4, stride);
  _tile_loadd(3, from + 16 * stride / 4 + 16, stride);
}

inline void store_sums(float* to, int64_t stride) {
  _tile_stored(0, to, stride);
  _tile_stored(1, to + 16, stride);
  _tile_stored(2, to + 16 * stride / 4, stride);
  _tile_stored(3, to + 16 * stride / 4 + 16, stride);
}

inline void start_sums(const TileBlock& block, bool is_whole, const float* edge) {
  if (!block.is_first) {
    is_whole ? load_sums(block.out, block.out_stride * 4) : load_sums(edge, 128);
  } else if (block.bias == nullptr) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    load_sums(is_whole ? block.bias : edge, 0);
  }
}

/// What the next block will write, to the right of this one (or beyond the end, which does no
/// harm).
inline void fetch_next(const TileBlock& block) {
  for (int row = 0; row < 32; ++row) {
    const float* next = block.out + row * block.out_stride + 32;
    __builtin_prefetch(next, 1);
    __builtin_prefetch(next + 16, 1);
  }
}

template <int Parts>
void multiply(const TileBlock& block) {
  alignas(64) float edge[32 * 32];
  const bool is_whole = block.rows == 32 && block.columns == 32;
  if (!is_whole) {  // what lies beyond the edge is worked on in `edge`
    const auto* from = block.is_first ? block.bias : block.out;
    for (int64_t row = 0; from != nullptr && row < (block.is_first ? 1 : block.rows); ++row) {
      std::copy_n(from + row * block.out_stride, block.columns, edge + row * 32);
    }
  }
  start_sums(block, is_whole, edge);
  if (is_whole) fetch_next(block);
  Panels p{block.a, block.a + block.a_stride, block.b, block.b + block.b_stride};
  for (int64_t step = 0; step < block.steps; ++step) {
    multiply_step<Parts>(p);
    p.a0 += Parts * kTileEntries;
    p.a1 += Parts * kTileEntries;
    p.b0 += Parts * kTileEntries;
    p.b1 += Parts * kTileEntries;
  }
  store_sums(is_whole ? block.out : edge, is_whole ? block.out_stride * 4 : 128);
  for (int64_t row = 0; !is_whole && row < block.rows; ++row) {
    std::copy_n(edge + row * 32, block.columns, block.out + row * block.out_stride);
  }
}

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t reserved[15] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void begin() {
  static constexpr TileShapes kShapes;
  _tile_loadconfig(&kShapes);
}

void end() { _tile_release(); }

template <int Parts>
constexpr TileKernels kKernels{Parts, pack<Parts, false>, pack<Parts, true>,
                               begin, multiply<Parts>,    end};

}  // namespace

const TileKernels& tile_kernels(GemmPrecision precision) {
  switch (precision) {
    case GemmPrecision::medium:
      return kKernels<1>;
    case GemmPrecision::high:
      return kKernels<2>;
    default:
      return kKernels<3>;
  }
}

}  // namespace x_transformers::kernels

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace x_transformers::kernels {
namespace {

bool ask_for_tiles() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kBf16Tiles = 1u << 22, kTiles = 1u << 24;
  if ((edx & kBf16Tiles) == 0 || (edx & kTiles) == 0) return false;
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) == 0 || (eax & (1u << 5)) == 0)
    return false;  // AVX512_BF16
  constexpr int64_t kAskForState = 0x1023,
                    kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
}

}  // namespace

bool has_tiles() {
  static const bool has = ask_for_tiles();
  return has;
}

}  // namespace x_transformers::kernels

#else

namespace x_transformers::kernels {

bool has_tiles() { return false; }

const TileKernels& tile_kernels(GemmPrecision) {
  static const TileKernels none;
  return none;
}

}  // namespace x_transformers::kernels

#endif
