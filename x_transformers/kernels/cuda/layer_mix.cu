// Each layer is read once for up to three views together. Forward, a block has a few rows, which
// are one piece of memory of each layer, and a thread a vector of them. Backward, a warp has a row:
// the gradient of a weight is a dot product along it, and the gradient of each layer is read,
// added to and written beside it.
#include "x_transformers/kernels/cuda/layer_mix.cuh"

#include <algorithm>

#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kWarps = 4;     ///< of a block
constexpr int kMaxViews = 3;  ///< in one launch
constexpr int kTogether = 8;  ///< layers that a thread reads at once

__device__ inline float warp_max(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

/// The weights of one row and view, by one warp.
template <class T>
__device__ void make_weights(const T* logits, int count, bool uses_softmax, float* weights) {
  const int lane = threadIdx.x % kWarp;
  if (!uses_softmax) {
    for (int l = lane; l < count; l += kWarp) {
      const float logit = to_float(logits[l]);
      weights[l] = logit < 0.0f ? 0.0f : logit;  // keeps NaN
    }
    return;
  }
  float most = -INFINITY, sum = 0;
  for (int l = lane; l < count; l += kWarp) most = fmaxf(most, to_float(logits[l]));
  most = warp_max(most);
  for (int l = lane; l < count; l += kWarp) {
    weights[l] = expf(to_float(logits[l]) - most);
    sum += weights[l];
  }
  const float factor = 1.0f / warp_sum(sum);
  for (int l = lane; l < count; l += kWarp) weights[l] *= factor;
}

struct Forward {
  const void* layers[kMaxMixedLayers];
  const void* logits;
  void* out;
  int64_t rows;
  int dim, count, first_view, all_views, rows_of_block;
  bool uses_softmax;
};

template <class T, int kSize, int kViews>
__global__ void __launch_bounds__(kWarps* kWarp)
    layer_mix_forward_kernel(const __grid_constant__ Forward p) {
  using Part = Packed<T, kSize>;
  extern __shared__ float weights[];  // [rows of the block, views, layers]
  const int64_t first = int64_t{blockIdx.x} * p.rows_of_block;
  const int rows = static_cast<int>(min(int64_t{p.rows_of_block}, p.rows - first));
  for (int pair = threadIdx.x / kWarp; pair < rows * kViews; pair += kWarps) {
    const int64_t at = (first + pair / kViews) * p.all_views + p.first_view + pair % kViews;
    make_weights(static_cast<const T*>(p.logits) + at * p.count, p.count, p.uses_softmax,
                 weights + pair * p.count);
  }
  __syncthreads();
  const int vectors = p.dim / kSize;
  for (int item = threadIdx.x; item < rows * vectors; item += kWarps * kWarp) {
    const float* own = weights + item / vectors * kViews * p.count;
    const int64_t at = first * p.dim + int64_t{item} * kSize;
    float sums[kViews][kSize] = {};
    for (int from = 0; from < p.count; from += kTogether) {
      Part x[kTogether];
#pragma unroll
      for (int l = 0; l < kTogether; ++l) {
        if (from + l < p.count) x[l] = Part::load(static_cast<const T*>(p.layers[from + l]) + at);
      }
#pragma unroll
      for (int l = 0; l < kTogether; ++l) {
        if (from + l >= p.count) break;
        float values[kSize];
        x[l].unpack(values);
#pragma unroll
        for (int view = 0; view < kViews; ++view) {
          const float weight = own[view * p.count + from + l];
#pragma unroll
          for (int i = 0; i < kSize; ++i) sums[view][i] += weight * values[i];
        }
      }
    }
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      Part::pack(sums[view])
          .store(static_cast<T*>(p.out) + (p.first_view + view) * p.rows * p.dim + at);
  }
}

struct Backward {
  const void* layers[kMaxMixedLayers];
  const void* known_grads[kMaxMixedLayers];
  void* layer_grads[kMaxMixedLayers];
  const void* logits;
  const void* out_grad;
  void* logits_grad;
  int64_t rows;
  int dim, count, first_wanted, first_view, all_views;
  bool uses_softmax;
  bool knows_grads;  ///< an earlier launch has written layer_grads
};

/// The gradient of the logits of one row and view from that of the weights, by one warp.
template <class T>
__device__ void logits_gradient(const T* logits, const float* weights, const float* weight_grads,
                                int count, bool uses_softmax, T* logits_grad) {
  const int lane = threadIdx.x % kWarp;
  float mean = 0;
  if (uses_softmax) {
    for (int l = lane; l < count; l += kWarp) mean += weights[l] * weight_grads[l];
    mean = warp_sum(mean);
  }
  for (int l = lane; l < count; l += kWarp) {
    const float slope = uses_softmax ? weights[l] : (to_float(logits[l]) > 0.0f ? 1.0f : 0.0f);
    logits_grad[l] = from_float<T>(slope * (weight_grads[l] - mean));
  }
}

/// Vectors of a row for a thread: kParts, each kStep numbers after the one before.
template <class T, int kSize, int kParts>
struct RowParts {
  using Part = Packed<T, kSize>;
  static constexpr int kStep = kWarp * kSize;
  int64_t at;  ///< the first, in a tensor [rows, dim]
  bool is_there[kParts];

  __device__ void load(const T* memory, Part (&parts)[kParts]) const {
#pragma unroll
    for (int part = 0; part < kParts; ++part)
      parts[part] = Part::load_if(is_there[part] && memory != nullptr, memory + at + part * kStep);
  }
};

/// The dot products of layers [begin, end) with the gradients of the views, added up in
/// weight_grads, and where kWanted the gradients of the layers; kLayers of them are read at once.
template <bool kWanted, int kLayers, class T, int kSize, int kParts, int kViews>
__device__ void go_over_layers(const Backward& p, const RowParts<T, kSize, kParts>& row,
                               const Packed<T, kSize> (&grads)[kViews][kParts], int begin, int end,
                               const float* weights, float* weight_grads, bool is_first) {
  using Part = Packed<T, kSize>;
  for (int first = begin; first < end; first += kLayers) {
    Part x[kLayers][kParts], sums[kWanted ? kLayers : 1][kParts];
#pragma unroll
    for (int l = 0; l < kLayers; ++l) {
      const int layer = min(first + l, end - 1);
      row.load(static_cast<const T*>(p.layers[layer]), x[l]);
      if constexpr (kWanted) {
        const void* known = p.knows_grads ? p.layer_grads[layer] : p.known_grads[layer];
        row.load(static_cast<const T*>(known), sums[l]);
      }
    }
#pragma unroll
    for (int l = 0; l < kLayers; ++l) {
      const int layer = first + l;
      if (layer >= end) break;
      float along[kViews] = {}, weight[kViews];
#pragma unroll
      for (int view = 0; view < kViews; ++view) weight[view] = weights[view * p.count + layer];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        float values[kSize], totals[kSize];
        x[l][part].unpack(values);
        if constexpr (kWanted) sums[l][part].unpack(totals);
#pragma unroll
        for (int view = 0; view < kViews; ++view) {
          float grad[kSize];
          grads[view][part].unpack(grad);
#pragma unroll
          for (int i = 0; i < kSize; ++i) {
            along[view] += grad[i] * values[i];
            if constexpr (kWanted) totals[i] += weight[view] * grad[i];
          }
        }
        if constexpr (kWanted) {
          if (row.is_there[part])
            Part::pack(totals).store(static_cast<T*>(p.layer_grads[layer]) + row.at +
                                     part * row.kStep);
        }
      }
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        const float total = warp_sum(along[view]);
        float* sum = weight_grads + view * p.count + layer;
        if (threadIdx.x % kWarp == 0) *sum = is_first ? total : *sum + total;
      }
    }
  }
}

/// kParts vectors of a row for a thread at a time.
template <class T, int kSize, int kParts, int kLayers, int kViews>
__global__ void __launch_bounds__(kWarps* kWarp, kSize == 1 ? 1 : 3)
    layer_mix_backward_kernel(const __grid_constant__ Backward p) {
  using Part = Packed<T, kSize>;
  extern __shared__ float room[];  // for each warp weights and their gradients, [views, layers]
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp;
  if (row >= p.rows) return;  // whole warps
  float* weights = room + warp * 2 * kViews * p.count;
  float* weight_grads = weights + kViews * p.count;
  const int64_t logits_at = (row * p.all_views + p.first_view) * p.count;
  const T* logits = static_cast<const T*>(p.logits) + logits_at;
  for (int view = 0; view < kViews; ++view)
    make_weights(logits + view * p.count, p.count, p.uses_softmax, weights + view * p.count);
  __syncwarp();
  for (int from = 0; from < p.dim; from += kWarp * kSize * kParts) {
    RowParts<T, kSize, kParts> parts;
    parts.at = row * p.dim + from + lane * kSize;
#pragma unroll
    for (int part = 0; part < kParts; ++part)
      parts.is_there[part] = from + lane * kSize + part * parts.kStep < p.dim;
    Part grads[kViews][kParts];
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      parts.load(static_cast<const T*>(p.out_grad) + (p.first_view + view) * p.rows * p.dim,
                 grads[view]);
    go_over_layers<false, 2 * kLayers>(p, parts, grads, 0, p.first_wanted, weights, weight_grads,
                                       from == 0);
    go_over_layers<true, kLayers>(p, parts, grads, p.first_wanted, p.count, weights, weight_grads,
                                  from == 0);
  }
  __syncwarp();
  for (int view = 0; view < kViews; ++view) {
    const int at = view * p.count;
    logits_gradient(logits + at, weights + at, weight_grads + at, p.count, p.uses_softmax,
                    static_cast<T*>(p.logits_grad) + logits_at + at);
  }
}

struct Gather {
  const void* known_grads[kMaxMixedLayers];
  void* layer_grads[kMaxMixedLayers];
  struct View {
    const void* logits;  ///< of row 0; those of the next row are `row_stride` further
    const void* out_grad;
    int count, row_stride;
  };
  View views[LayerMixGather::kMaxViews];
  int64_t rows;
  int dim, count, stride, rows_of_block;
  bool uses_softmax;
};

/// A block has a few rows, and a thread a vector of them, as forward.
template <class T, int kSize, int kViews>
__global__ void __launch_bounds__(kWarps* kWarp)
    layer_mix_gather_kernel(const __grid_constant__ Gather p) {
  using Part = Packed<T, kSize>;
  constexpr int kLayers = 4;          // at once
  extern __shared__ float weights[];  // [rows of the block, views, stride]
  const int64_t first = int64_t{blockIdx.x} * p.rows_of_block;
  const int rows = static_cast<int>(min(int64_t{p.rows_of_block}, p.rows - first));
  for (int pair = threadIdx.x / kWarp; pair < rows * kViews; pair += kWarps) {
    const auto& view = p.views[pair % kViews];
    make_weights(static_cast<const T*>(view.logits) + (first + pair / kViews) * view.row_stride,
                 view.count, p.uses_softmax, weights + pair * p.stride);
  }
  __syncthreads();
  const int vectors = p.dim / kSize;
  for (int item = threadIdx.x; item < rows * vectors; item += kWarps * kWarp) {
    const float* own = weights + item / vectors * kViews * p.stride;
    const int64_t at = first * p.dim + int64_t{item} * kSize;
    Part grads[kViews];
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      grads[view] = Part::load(static_cast<const T*>(p.views[view].out_grad) + at);
    for (int from = 0; from < p.count; from += kLayers) {
      Part sums[kLayers];
#pragma unroll
      for (int l = 0; l < kLayers; ++l) {
        const T* known = static_cast<const T*>(p.known_grads[min(from + l, p.count - 1)]);
        sums[l] = Part::load_if(known != nullptr, known + at);
      }
#pragma unroll
      for (int l = 0; l < kLayers; ++l) {
        if (from + l >= p.count) break;
        float totals[kSize];
        sums[l].unpack(totals);
#pragma unroll
        for (int view = 0; view < kViews; ++view) {
          const float weight = own[view * p.stride + from + l];
          float grad[kSize];
          grads[view].unpack(grad);
#pragma unroll
          for (int i = 0; i < kSize; ++i) totals[i] += weight * grad[i];
        }
        Part::pack(totals).store(static_cast<T*>(p.layer_grads[from + l]) + at);
      }
    }
  }
}

/// body(a number of views in a compile-time constant, the first of them) until all are done.
template <class Body>
void for_views(int64_t views, const Body& body) {
  for (int64_t first = 0; first < views; first += kMaxViews) {
    switch (std::min<int64_t>(kMaxViews, views - first)) {
      case 1:
        body(std::integral_constant<int, 1>{}, static_cast<int>(first));
        break;
      case 2:
        body(std::integral_constant<int, 2>{}, static_cast<int>(first));
        break;
      default:
        body(std::integral_constant<int, kMaxViews>{}, static_cast<int>(first));
    }
  }
}

/// Rows of a block that has three vectors for each thread, so that the time until the weights are
/// there is shared.
int64_t rows_of_block(int64_t vectors) {
  constexpr int64_t kVectors = 3 * kWarps * kWarp;
  return std::clamp<int64_t>(kVectors / vectors, 1, kWarps * 4);
}

template <class T, int kSize>
void launch(const LayerMix& params, cudaStream_t stream) {
  const int64_t rows = rows_of_block(params.dim / kSize);
  Forward p{};
  std::copy_n(params.layers, params.count, p.layers);
  p.logits = params.logits;
  p.out = params.out;
  p.rows = params.rows;
  p.dim = static_cast<int>(params.dim);
  p.count = static_cast<int>(params.count);
  p.all_views = static_cast<int>(params.views);
  p.rows_of_block = static_cast<int>(rows);
  p.uses_softmax = params.uses_softmax;
  const auto blocks = static_cast<unsigned>((params.rows + rows - 1) / rows);
  for_views(params.views, [&](auto views, int first) {
    p.first_view = first;
    const size_t bytes = rows * views * params.count * sizeof(float);
    layer_mix_forward_kernel<T, kSize, views><<<blocks, kWarps * kWarp, bytes, stream>>>(p);
  });
}

template <class T, int kSize>
void launch(const LayerMixBackward& params, cudaStream_t stream) {
  constexpr int kParts = kSize == 1 ? 8 : 3, kLayers = 2;
  Backward p{};
  std::copy_n(params.layers, params.count, p.layers);
  std::copy_n(params.known_grads, params.count, p.known_grads);
  std::copy_n(params.layer_grads, params.count, p.layer_grads);
  p.first_wanted = static_cast<int>(params.first_wanted);
  p.logits = params.logits;
  p.out_grad = params.out_grad;
  p.logits_grad = params.logits_grad;
  p.rows = params.rows;
  p.dim = static_cast<int>(params.dim);
  p.count = static_cast<int>(params.count);
  p.all_views = static_cast<int>(params.views);
  p.uses_softmax = params.uses_softmax;
  const auto blocks = static_cast<unsigned>((params.rows + kWarps - 1) / kWarps);
  for_views(params.views, [&](auto views, int first) {
    p.first_view = first;
    p.knows_grads = first > 0;
    const size_t bytes = kWarps * 2 * views * params.count * sizeof(float);
    layer_mix_backward_kernel<T, kSize, kParts, kLayers, views>
        <<<blocks, kWarps * kWarp, bytes, stream>>>(p);
  });
}

/// So many views, which is at most kMax, as a compile-time constant.
template <int kMax, class Body>
void with_count(int64_t count, const Body& body) {
  if constexpr (kMax > 1) {
    if (count < kMax) return with_count<kMax - 1>(count, body);
  }
  body(std::integral_constant<int, kMax>{});
}

template <class T, int kSize>
void launch(const LayerMixGather& params, cudaStream_t stream) {
  const int64_t rows = rows_of_block(params.dim / kSize);
  Gather p{};
  std::copy_n(params.known_grads, params.count, p.known_grads);
  std::copy_n(params.layer_grads, params.count, p.layer_grads);
  p.rows = params.rows;
  p.dim = static_cast<int>(params.dim);
  p.count = static_cast<int>(params.count);
  p.rows_of_block = static_cast<int>(rows);
  p.uses_softmax = params.uses_softmax;
  int64_t views = 0;
  for (int64_t i = 0; i < params.mixes_count; ++i) {
    const auto& mix = params.mixes[i];
    p.stride = std::max(p.stride, static_cast<int>(mix.count));
    for (int64_t view = 0; view < mix.views; ++view) {
      p.views[views++] = {static_cast<const T*>(mix.logits) + view * mix.count,
                          static_cast<const T*>(mix.out_grad) + view * params.rows * params.dim,
                          static_cast<int>(mix.count), static_cast<int>(mix.views * mix.count)};
    }
  }
  const auto blocks = static_cast<unsigned>((params.rows + rows - 1) / rows);
  with_count<LayerMixGather::kMaxViews>(views, [&](auto count) {
    const size_t bytes = rows * count * p.stride * sizeof(float);
    layer_mix_gather_kernel<T, kSize, count><<<blocks, kWarps * kWarp, bytes, stream>>>(p);
  });
}

bool all_aligned(const void* const* memory, int64_t count) {
  return std::all_of(memory, memory + count, is_aligned);
}

bool has_vectors(const LayerMix& params, int size) {
  return params.dim % size == 0 && all_aligned(params.layers, params.count) &&
         is_aligned(params.out);
}

bool has_vectors(const LayerMixBackward& params, int size) {
  return params.dim % size == 0 && all_aligned(params.layers, params.count) &&
         all_aligned(params.known_grads, params.count) &&
         all_aligned(params.layer_grads, params.count) && is_aligned(params.out_grad);
}

bool has_vectors(const LayerMixGather& params, int size) {
  return params.dim % size == 0 && all_aligned(params.known_grads, params.count) &&
         all_aligned(params.layer_grads, params.count) &&
         std::all_of(params.mixes, params.mixes + params.mixes_count,
                     [](const LayerMixGather::Mix& mix) { return is_aligned(mix.out_grad); });
}

template <class Params>
cudaError_t run(const Params& params, cudaStream_t stream) {
  if (params.rows == 0 || params.dim == 0) return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kSize = 16 / sizeof(T);
    if (has_vectors(params, kSize)) {
      launch<T, kSize>(params, stream);
    } else {
      launch<T, 1>(params, stream);
    }
  });
  return cudaGetLastError();
}

}  // namespace

cudaError_t layer_mix_forward(const LayerMix& params, cudaStream_t stream) {
  return run(params, stream);
}

cudaError_t layer_mix_backward(const LayerMixBackward& params, cudaStream_t stream) {
  return run(params, stream);
}

cudaError_t layer_mix_gather(const LayerMixGather& params, cudaStream_t stream) {
  return run(params, stream);
}

}  // namespace x_transformers::kernels::cuda
