// What the kernels of hyper-connections have in common. A token belongs to one group of threads,
// which keep some of its streams at a time in registers, so each stream is read once.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/device/row_parts.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/hyper_connection.cuh"

namespace x_transformers::kernels::cuda::hyper {

constexpr int kThreads = kWarpsOfShortRows * kWarp;

struct Sizes {
  int64_t tokens, length;
  int streams, dim;

  /// Where stream 0 of a token begins, and how far apart streams are.
  __device__ int64_t row_of(int64_t token) const {
    return (token / length * streams * length + token % length) * dim;
  }
  __device__ int64_t stride() const { return length * dim; }
};

/// The vectors of this thread of kStreams streams from `first` on, zeros for those that there are
/// not.
template <class T, int kSize, int kParts, int kStreams>
__device__ void load_streams(const T* row, const Sizes& sizes, int first,
                             Packed<T, kSize> (&kept)[kStreams][kParts]) {
#pragma unroll
  for (int j = 0; j < kStreams; ++j) {
    for_parts_of_row<kSize, kParts>(sizes.dim, [&](int part, int at) {
      kept[j][part] = Packed<T, kSize>::load_if(first + j < sizes.streams,
                                                row + (first + j) * sizes.stride() + at);
    });
  }
}

/// Streams in registers at once: as many as there is room for.
template <int kSize, int kViews>
struct AtOnce {
  static constexpr int kForward = kSize == 1 ? 1 : kViews == 1 ? 4 : 2;
  static constexpr int kBackward = kSize == 1 || kViews > 1 ? 1 : 2;
};

/// Threads that share a token of `dim` numbers, in vectors of `size` with `parts` for each, and
/// tokens of a block.
inline dim3 block_for(int64_t dim, int size, int parts) {
  const int64_t of_warp = int64_t{size} * parts * kWarp;
  const auto warps = static_cast<unsigned>((dim + of_warp - 1) / of_warp);
  return {warps * kWarp, warps == 1 ? unsigned{kWarpsOfShortRows} : 1u};
}

template <class Params>
Sizes sizes_of(const Params& params) {
  return {params.batch * params.length, params.length, static_cast<int>(params.streams_count),
          static_cast<int>(params.dim)};
}

/// body(the vectors of a row for each thread): of 16 bytes three, or four where they save a warp;
/// single numbers otherwise.
template <int kSize, class Body>
void with_parts(int64_t dim, const Body& body) {
  if constexpr (kSize == 1) {
    body(std::integral_constant<int, 16>{});
  } else if (dim <= 3 * kSize * kWarp) {
    body(std::integral_constant<int, 3>{});
  } else {
    body(std::integral_constant<int, 4>{});
  }
}

/// Whether all memory begins where vectors of 16 bytes may.
inline bool are_aligned(std::initializer_list<const void*> memories) {
  return std::all_of(memories.begin(), memories.end(), is_aligned);
}

/// body(T{}, the size of vectors) for what the parameters allow, whose memory is `aligned` or
/// not.
template <class Params, class Body>
cudaError_t with_vectors(const Params& params, bool aligned, const Body& body) {
  if (params.batch * params.length * params.dim == 0) return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kSize = 16 / sizeof(T);
    if (params.dim % kSize == 0 && aligned) {
      body(number, std::integral_constant<int, kSize>{});
    } else {
      body(number, std::integral_constant<int, 1>{});
    }
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda::hyper
