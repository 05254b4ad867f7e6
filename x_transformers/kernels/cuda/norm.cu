// A row belongs to one group of threads: a warp or a part of one, with several groups a block, or a
// block where the row is long. Each thread keeps its part of the row in registers, so x is read
// once. The backward of many rows reads the next row while it adds up the one before, sums the
// gradient of the gain over all rows of its group, and leaves the sums of the groups to be added
// up. That of few rows has blocks that go down columns beside those that go along rows: they read x
// once more, from the cache, and save a launch.
#include "x_transformers/kernels/cuda/norm.cuh"

#include <algorithm>

#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"
#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/device/row_parts.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kMaxThreads = 1024;

/// How a kernel goes over a row: thread t of the group has the vectors t, t + threads, ... of
/// kSize numbers, at most kParts of them. `short_rows`: no group is more than a warp.
template <class T, int size, int parts, bool short_rows = false>
struct Layout {
  using Element = T;
  static constexpr int kSize = size;
  static constexpr int kParts = parts;
  static constexpr bool kHasShortRows = short_rows;
  static constexpr bool kHasVectors = size * sizeof(T) == 16;
  static constexpr int kLaunchBound =
      short_rows ? kWarpsOfShortRows * kWarp : kMaxThreads / (kHasVectors ? size / 4 : 1);
  /// Blocks of a multiprocessor: of short rows what norm_chunks counts on.
  static constexpr int kBlocksOfEach = short_rows ? (parts > 2 ? 3 : 4) : 1;
};

/// The most vectors of a thread, and the most numbers where they are read one by one.
constexpr int kMaxParts = 4, kPartsOfSingles = 16;

struct Forward {
  const void *x, *weight;
  void* y;
  float *mean, *inverse;
  float epsilon, scale, offset;
  int64_t rows;
  int dim;
};

struct Backward {
  const void *x, *y_grad, *weight, *other_grad;
  void* x_grad;
  const float *mean, *inverse;
  float* weight_grad;
  void* whole_weight_grad;
  float epsilon, scale, offset;
  int64_t rows;
  int dim;
};

/// Calls body(part, first feature) for the vectors of this thread.
template <class L, class Body>
__device__ void for_parts(int dim, const Body& body) {
  for_parts_of_row<L::kSize, L::kParts>(dim, body);
}

/// The gain of the features at, at + 1, ...
template <class T, int kSize>
__device__ void load_gain(const void* weight, float offset, int at, float (&gain)[kSize]) {
  if (weight == nullptr) {
    for (int i = 0; i < kSize; ++i) gain[i] = 1.0f;
    return;
  }
  const auto loaded = Vector<T, kSize>::load(static_cast<const T*>(weight) + at);
  for (int i = 0; i < kSize; ++i) gain[i] = to_float(loaded.values[i]) + offset;
}

/// kCentred: layer norm, else the l2 norm.
template <class L, bool kCentred>
__global__ void __launch_bounds__(L::kLaunchBound) norm_forward_kernel(Forward p) {
  using T = typename L::Element;
  using Part = Vector<T, L::kSize>;
  __shared__ float room[kWarp];
  wait_for_earlier();
  let_next_begin();
  const int64_t row = group_of_thread();
  if (row >= p.rows) return;  // whole groups
  const T* x = static_cast<const T*>(p.x) + row * p.dim;
  T* y = static_cast<T*>(p.y) + row * p.dim;
  Part kept[L::kParts];
  float sum = 0;
  for_parts<L>(p.dim, [&](int part, int at) {
    kept[part] = Part::load(x + at);
    if constexpr (kCentred) {
#pragma unroll
      for (int i = 0; i < L::kSize; ++i) sum += to_float(kept[part].values[i]);
    }
  });
  const float mean = kCentred ? row_sum(sum, room) / p.dim : 0.0f;
  float squares = 0;
  for_parts<L>(p.dim, [&](int part, int) {
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) {
      const float value = to_float(kept[part].values[i]) - mean;
      squares += value * value;
    }
  });
  squares = row_sum(squares, room);
  float inverse;
  if (kCentred) {
    inverse = rsqrtf(squares / p.dim + p.epsilon);
  } else {
    const float norm = sqrtf(squares);
    inverse = 1.0f / (norm < p.epsilon ? p.epsilon : norm);  // keeps NaN
  }
  const float factor = kCentred ? inverse : inverse * p.scale;
  for_parts<L>(p.dim, [&](int part, int at) {
    float gain[L::kSize];
    load_gain<T>(p.weight, p.offset, at, gain);
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) {
      const float value = to_float(kept[part].values[i]) - mean;
      kept[part].values[i] = from_float<T>(value * factor * gain[i]);
    }
    kept[part].store(y + at);
  });
  if (threadIdx.x != 0) return;
  if (p.inverse != nullptr) p.inverse[row] = inverse;
  if (kCentred && p.mean != nullptr) p.mean[row] = mean;
}

/// Adds up the sums of the groups of a block and writes those of the block.
template <class L>
__device__ void write_sums(const Backward& p, float (&sums)[L::kParts][L::kSize]) {
  __shared__ float room[kWarpsOfShortRows * kWarp * L::kParts * L::kSize];
  float* partial = p.weight_grad + int64_t{blockIdx.x} * p.dim;
  if (blockDim.y == 1) {
    for_parts<L>(p.dim, [&](int part, int at) {
#pragma unroll
      for (int i = 0; i < L::kSize; ++i) partial[at + i] = sums[part][i];
    });
    return;
  }
  for_parts<L>(p.dim, [&](int part, int at) {
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) room[threadIdx.y * p.dim + at + i] = sums[part][i];
  });
  __syncthreads();
  for (int at = threadIdx.y * blockDim.x + threadIdx.x; at < p.dim; at += blockDim.x * blockDim.y) {
    float total = 0;
    for (int group = 0; group < static_cast<int>(blockDim.y); ++group)
      total += room[group * p.dim + at];
    partial[at] = total;
  }
}

/// What the backward reads of a row.
template <class L, bool kCentred>
struct BackwardRow {
  using T = typename L::Element;
  using Part = Packed<T, L::kSize>;
  Part x[L::kParts], grads[L::kParts], others[L::kParts];
  float inverse, mean = 0;

  __device__ void load(const Backward& p, int64_t row) {
    inverse = p.inverse[row];
    if (kCentred) mean = p.mean[row];
    for_parts<L>(p.dim, [&](int part, int at) {
      x[part] = Part::load(static_cast<const T*>(p.x) + row * p.dim + at);
      grads[part] = Part::load(static_cast<const T*>(p.y_grad) + row * p.dim + at);
      others[part] = Part::load_if(p.other_grad != nullptr,
                                   static_cast<const T*>(p.other_grad) + row * p.dim + at);
    });
  }
};

/// With n = (x - mean) * inverse and g = y_grad * gain: x_grad = inverse * (g - mean(g) - n *
/// mean(g n)) of layer norm. Of the l2 norm n = x * inverse, g = y_grad * gain * scale and x_grad =
/// inverse * (g - n * sum(g n)), without the second term where the norm was below epsilon and so
/// constant. The first `blocks` of the grid go along rows.
template <class L, bool kCentred, bool kWantsWeight>
__device__ void backward_along_rows(const Backward& p, unsigned blocks) {
  using T = typename L::Element;
  using Part = Packed<T, L::kSize>;
  __shared__ float room[2 * kWarp];
  const int64_t groups = int64_t{blocks} * blockDim.y, group = group_of_thread();
  float sums[kWantsWeight ? L::kParts : 1][L::kSize] = {};
  BackwardRow<L, kCentred> now, next;
  if (L::kHasShortRows && group < p.rows) next.load(p, group);
  for (int64_t row = group; row < p.rows; row += groups) {
    if constexpr (L::kHasShortRows) {
      now = next;
      if (row + groups < p.rows) next.load(p, row + groups);
    } else {
      now.load(p, row);  // there are no registers for another one
    }
    T* x_grad = static_cast<T*>(p.x_grad) + row * p.dim;
    const float factor = kCentred ? now.inverse : now.inverse * p.scale;
    float along[2] = {0, 0};  // the sum of g n, and that of g
    for_parts<L>(p.dim, [&](int part, int at) {
      float gain[L::kSize], x[L::kSize], grads[L::kSize];
      load_gain<T>(p.weight, p.offset, at, gain);
      now.x[part].unpack(x);
      now.grads[part].unpack(grads);
#pragma unroll
      for (int i = 0; i < L::kSize; ++i) {
        const float value = x[i] - now.mean;
        along[0] += grads[i] * gain[i] * value;
        if (kCentred) along[1] += grads[i] * gain[i];
        if (kWantsWeight) sums[part][i] += grads[i] * (value * factor);
      }
    });
    row_sums(along, room);
    float back = along[0] * now.inverse * now.inverse;
    const float level = kCentred ? along[1] / p.dim : 0.0f;
    if (kCentred) {
      back /= p.dim;
    } else if (now.inverse >= 1.0f / p.epsilon) {
      back = 0;
    }
    for_parts<L>(p.dim, [&](int part, int at) {
      float gain[L::kSize], x[L::kSize], grads[L::kSize], result[L::kSize];
      load_gain<T>(p.weight, p.offset, at, gain);
      now.x[part].unpack(x);
      now.grads[part].unpack(grads);
      now.others[part].unpack(result);
#pragma unroll
      for (int i = 0; i < L::kSize; ++i)
        result[i] += (grads[i] * gain[i] - level - (x[i] - now.mean) * back) * factor;
      Part::pack(result).store(x_grad + at);
    });
  }
  if constexpr (kWantsWeight) write_sums<L>(p, sums);
}

template <class L, bool kCentred, bool kWantsWeight>
__global__ void __launch_bounds__(L::kLaunchBound, L::kBlocksOfEach)
    norm_backward_kernel(Backward p) {
  backward_along_rows<L, kCentred, kWantsWeight>(p, gridDim.x);
}

/// How blocks go down columns: kThreads side by side read 64 bytes of a row, and the lanes, so many
/// threads apart, have the rows lane, lane + lanes, ...
template <class L>
struct Columns {
  static constexpr int kThreads = 64 / (L::kSize * static_cast<int>(sizeof(typename L::Element)));
  static constexpr int kCount = kThreads * L::kSize;  ///< of a block
  static_assert(kThreads <= kWarp && kCount <= kWarp);
};

/// The gradient of the gain of the columns of block `block`: the sum over all rows of y_grad * n *
/// scale, in a fixed order.
template <class L, bool kCentred>
__device__ void gain_gradient_of_columns(const Backward& p, unsigned block) {
  using T = typename L::Element;
  using Part = Vector<T, L::kSize>;
  using C = Columns<L>;
  __shared__ float room[kWarp][C::kCount];
  const int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
  const int at = (static_cast<int>(block) * C::kThreads + thread % C::kThreads) * L::kSize;
  float sums[L::kSize] = {};
#pragma unroll 4
  for (int64_t row = thread / C::kThreads; at < p.dim && row < p.rows;
       row += threads / C::kThreads) {
    const auto x = Part::load(static_cast<const T*>(p.x) + row * p.dim + at);
    const auto y_grad = Part::load(static_cast<const T*>(p.y_grad) + row * p.dim + at);
    const float factor = kCentred ? p.inverse[row] : p.inverse[row] * p.scale;
    const float mean = kCentred ? p.mean[row] : 0.0f;
    for (int i = 0; i < L::kSize; ++i)
      sums[i] += to_float(y_grad.values[i]) * ((to_float(x.values[i]) - mean) * factor);
  }
  for (int offset = kWarp / 2; offset >= C::kThreads; offset /= 2) {
    for (int i = 0; i < L::kSize; ++i) sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], offset);
  }
  const int lane = thread % kWarp;
  for (int i = 0; lane < C::kThreads && i < L::kSize; ++i)
    room[thread / kWarp][lane * L::kSize + i] = sums[i];
  __syncthreads();
  const int column = static_cast<int>(block) * C::kCount + thread;
  if (thread >= C::kCount || column >= p.dim) return;
  float total = 0;
  for (int warp = 0; warp < threads / kWarp; ++warp) total += room[warp][thread];
  static_cast<T*>(p.whole_weight_grad)[column] = from_float<T>(total);
}

/// The first `row_blocks` have a group for each row, the others go down columns.
template <class L, bool kCentred>
__global__ void __launch_bounds__(L::kLaunchBound)
    norm_backward_few_rows_kernel(Backward p, unsigned row_blocks) {
  if (blockIdx.x < row_blocks) {
    backward_along_rows<L, kCentred, false>(p, row_blocks);
  } else {
    gain_gradient_of_columns<L, kCentred>(p, blockIdx.x - row_blocks);
  }
}

struct Grid {
  dim3 blocks, threads;
};

/// Groups of threads for rows of `dim` numbers, in vectors of `size`, `parts` for a thread.
Grid grid_for(int64_t groups, int64_t dim, int size, int parts) {
  constexpr unsigned kMinLanes = 8;
  unsigned lanes = kMinLanes;
  while (lanes < kWarp && lanes * size < dim) lanes *= 2;
  const int64_t per_warp = int64_t{size} * parts * kWarp;
  const auto warps = static_cast<unsigned>((dim + per_warp - 1) / per_warp);
  const unsigned threads = warps == 1 ? lanes : warps * kWarp;
  const unsigned rows = warps == 1 ? kWarpsOfShortRows * kWarp / lanes : 1;
  return {dim3(static_cast<unsigned>((groups + rows - 1) / rows)), dim3(threads, rows)};
}

template <class L, bool kCentred>
void launch(const NormForward& params, cudaStream_t stream) {
  const Forward p{params.x,       params.gain.weight,
                  params.y,       params.mean,
                  params.inverse, params.epsilon,
                  params.scale,   params.gain.offset,
                  params.rows,    static_cast<int>(params.dim)};
  const auto grid = grid_for(params.rows, params.dim, L::kSize, L::kParts);
  launch_early(norm_forward_kernel<L, kCentred>, {grid.blocks, grid.threads}, stream, p);
}

template <class L, bool kCentred>
void launch(const NormBackward& params, cudaStream_t stream) {
  const Backward p{params.x,
                   params.y_grad,
                   params.gain.weight,
                   params.other_grad,
                   params.x_grad,
                   params.mean,
                   params.inverse,
                   params.weight_grad,
                   params.whole_weight_grad,
                   params.epsilon,
                   params.scale,
                   params.gain.offset,
                   params.rows,
                   static_cast<int>(params.dim)};
  auto grid = grid_for(params.rows, params.dim, L::kSize, L::kParts);
  if (params.chunks > 0) grid.blocks = dim3(static_cast<unsigned>(params.chunks));
  if (params.whole_weight_grad != nullptr) {
    constexpr int kColumns = Columns<L>::kCount;
    const auto columns = static_cast<unsigned>((params.dim + kColumns - 1) / kColumns);
    const dim3 blocks(grid.blocks.x + columns);
    norm_backward_few_rows_kernel<L, kCentred>
        <<<blocks, grid.threads, 0, stream>>>(p, grid.blocks.x);
  } else if (params.weight_grad != nullptr) {
    norm_backward_kernel<L, kCentred, true><<<grid.blocks, grid.threads, 0, stream>>>(p);
  } else {
    norm_backward_kernel<L, kCentred, false><<<grid.blocks, grid.threads, 0, stream>>>(p);
  }
}

bool has_vectors(const NormForward& params, int size) {
  return params.dim % size == 0 && is_aligned(params.x) && is_aligned(params.y) &&
         is_aligned(params.gain.weight);
}

bool has_vectors(const NormBackward& params, int size) {
  return params.dim % size == 0 && is_aligned(params.x) && is_aligned(params.y_grad) &&
         is_aligned(params.x_grad) && is_aligned(params.other_grad) &&
         is_aligned(params.gain.weight);
}

template <class T, bool kCentred>
void launch_vectors(const NormForward& params, cudaStream_t stream) {
  launch<Layout<T, 16 / sizeof(T), kMaxParts>, kCentred>(params, stream);
}

/// With no more registers than the parts of a row need, the next row is read in time.
template <class T, bool kCentred>
void launch_vectors(const NormBackward& params, cudaStream_t stream) {
  constexpr int kSize = 16 / sizeof(T);
  const auto parts = (params.dim + kSize * kWarp - 1) / (kSize * kWarp);
  if (parts == 1) return launch<Layout<T, kSize, 1, true>, kCentred>(params, stream);
  if (parts == 2) return launch<Layout<T, kSize, 2, true>, kCentred>(params, stream);
  if (parts == 3) return launch<Layout<T, kSize, 3, true>, kCentred>(params, stream);
  if (parts == kMaxParts)
    return launch<Layout<T, kSize, kMaxParts, true>, kCentred>(params, stream);
  launch<Layout<T, kSize, kMaxParts>, kCentred>(params, stream);
}

template <bool kCentred, class Params>
cudaError_t run(const Params& params, cudaStream_t stream) {
  if (params.rows == 0 || params.dim == 0) return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    if (has_vectors(params, 16 / sizeof(T))) {
      launch_vectors<T, kCentred>(params, stream);
    } else {
      launch<Layout<T, 1, kPartsOfSingles>, kCentred>(params, stream);
    }
  });
  return cudaGetLastError();
}

}  // namespace

cudaError_t layer_norm_forward(const NormForward& params, cudaStream_t stream) {
  return run<true>(params, stream);
}

cudaError_t layer_norm_backward(const NormBackward& params, cudaStream_t stream) {
  return run<true>(params, stream);
}

cudaError_t l2_norm_forward(const NormForward& params, cudaStream_t stream) {
  return run<false>(params, stream);
}

cudaError_t l2_norm_backward(const NormBackward& params, cudaStream_t stream) {
  return run<false>(params, stream);
}

int64_t norm_chunks(int64_t rows, int64_t dim) {
  // As many warps as there are registers for, on each of some 132 multiprocessors; a warp has at
  // most 1,024 features.
  constexpr int64_t kMultiprocessors = 132, kFeaturesOfAWarp = 1024;
  const int64_t warps_of_each = dim > kFeaturesOfAWarp / 2 && dim <= kFeaturesOfAWarp ? 12 : 16;
  const auto warps = std::max<int64_t>(1, (dim + kFeaturesOfAWarp - 1) / kFeaturesOfAWarp);
  const auto blocks =
      kMultiprocessors * warps_of_each / std::max<int64_t>(kWarpsOfShortRows, warps);
  // Of few rows the sums of blocks are as long as what they are sums of.
  const auto few = std::max<int64_t>(128, kFeaturesOfAWarp / warps);
  return rows <= few ? 0 : std::max<int64_t>(128, blocks);
}

}  // namespace x_transformers::kernels::cuda
