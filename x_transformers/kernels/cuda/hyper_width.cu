// What a layer reads of the streams, and what they become without it. The gain times the learned
// columns lies in shared memory. Backward, what the layer norm subtracts from a gradient follows
// from dot products that the forward has written down; each group of threads sums over its tokens
// what the gradients of the weights are made of, and a second kernel adds these sums up.
#include <algorithm>

#include "x_transformers/kernels/cuda/hyper_connection_block.cuh"

namespace x_transformers::kernels::cuda {
namespace {

using namespace hyper;

constexpr float kEpsilon = 1e-5f;  ///< of the layer norm

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T>
__device__ float number(const void* memory, int64_t at = 0) {
  return to_float(static_cast<const T*>(memory)[at]);
}

/// The gain times each view of alpha_fn and times beta_fn, [kViews + 1, dim], in shared memory.
template <class T, int kViews>
__device__ void load_columns(const HyperConnectionWeights& weights, const Sizes& sizes,
                             float* columns) {
  const int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
  for (int at = thread; at < sizes.dim; at += threads) {
    const float gain = number<T>(weights.gain, at);
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      columns[view * sizes.dim + at] =
          gain * number<T>(weights.alpha_fn, int64_t{at} * (kViews + sizes.streams) + view);
    columns[kViews * sizes.dim + at] = gain * number<T>(weights.beta_fn, at);
  }
  __syncthreads();
}

template <int kSize>
__device__ void load_column(const float* column, float (&values)[kSize]) {
  if constexpr (kSize % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kSize; i += 4)
      *reinterpret_cast<float4*>(values + i) = *reinterpret_cast<const float4*>(column + i);
  } else {
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] = column[i];
  }
}

/// From the dot products of a normed stream, `along` with views and `along_beta`, to its weights.
template <class T>
struct StreamWeights {
  const HyperConnectionWeights& weights;
  int streams, views;

  __device__ float alpha(int stream, int view, float along) const {
    return sigmoid(along * number<T>(weights.alpha_scale) +
                   number<T>(weights.static_alpha, stream * (views + streams) + view));
  }
  __device__ float beta_sigmoid(int stream, float along_beta) const {
    return sigmoid(2.0f * sigmoid(along_beta) * number<T>(weights.beta_scale) +
                   number<T>(weights.static_beta, stream));
  }
};

struct WidthForward {
  const void* streams;
  HyperConnectionWeights weights;
  void *input, *sum;
  float *beta, *statistics;
  Sizes sizes;
};

/// kStreams of a token's streams are in registers at once.
template <class T, int kSize, int kParts, int kStreams, int kViews>
__global__ void __launch_bounds__(kThreads) hyper_width_forward_kernel(WidthForward p) {
  using Part = Packed<T, kSize>;
  constexpr int kStatistics = kViews + 3;
  constexpr int kSums = kViews + 2;  // along views, along beta, squares
  extern __shared__ float columns[];
  __shared__ float room[kWarpsOfShortRows * kStreams * kSums];
  load_columns<T, kViews>(p.weights, p.sizes, columns);
  const int dim = p.sizes.dim, streams = p.sizes.streams;
  const StreamWeights<T> weights{p.weights, streams, kViews};
  const int64_t groups = int64_t{gridDim.x} * blockDim.y;
  for (int64_t token = group_of_thread(); token < p.sizes.tokens; token += groups) {
    const T* row = static_cast<const T*>(p.streams) + p.sizes.row_of(token);
    float inputs[kViews][kParts][kSize] = {}, totals[kParts][kSize] = {};
    for (int first = 0; first < streams; first += kStreams) {
      Part kept[kStreams][kParts];
      load_streams(row, p.sizes, first, kept);
      float means[kStreams] = {};
      for_parts_of_row<kSize, kParts>(dim, [&](int part, int) {
#pragma unroll
        for (int j = 0; j < kStreams; ++j) {
          float values[kSize];
          kept[j][part].unpack(values);
#pragma unroll
          for (int i = 0; i < kSize; ++i) {
            means[j] += values[i];
            totals[part][i] += values[i];
          }
        }
      });
      row_sums(means, room);
      float along[kStreams * kSums] = {};
#pragma unroll
      for (int j = 0; j < kStreams; ++j) means[j] /= dim;
      for_parts_of_row<kSize, kParts>(dim, [&](int part, int at) {
        float column[kViews + 1][kSize];
#pragma unroll
        for (int view = 0; view <= kViews; ++view)
          load_column(columns + view * dim + at, column[view]);
#pragma unroll
        for (int j = 0; j < kStreams; ++j) {
          float values[kSize];
          kept[j][part].unpack(values);
#pragma unroll
          for (int i = 0; i < kSize; ++i) {
            values[i] -= means[j];
            along[j * kSums + kViews + 1] += values[i] * values[i];
#pragma unroll
            for (int view = 0; view <= kViews; ++view)
              along[j * kSums + view] += values[i] * column[view][i];
          }
        }
      });
      row_sums(along, room);
      float alpha[kStreams][kViews];
#pragma unroll
      for (int j = 0; j < kStreams; ++j) {
        if (first + j >= streams) break;
        float* sums = along + j * kSums;
        const float inverse = rsqrtf(sums[kViews + 1] / dim + kEpsilon);
#pragma unroll
        for (int view = 0; view < kViews; ++view) {
          sums[view] *= inverse;
          alpha[j][view] = weights.alpha(first + j, view, sums[view]);
        }
        sums[kViews] *= inverse;
        const float beta = 2.0f * weights.beta_sigmoid(first + j, sums[kViews]);
        if (threadIdx.x != 0) continue;
        const int64_t at = token * streams + first + j;
        p.beta[at] = beta;
        if (p.statistics == nullptr) continue;
        float* statistics = p.statistics + at * kStatistics;
        statistics[0] = means[j];
        statistics[1] = inverse;
#pragma unroll
        for (int view = 0; view <= kViews; ++view) statistics[2 + view] = sums[view];
      }
      for_parts_of_row<kSize, kParts>(dim, [&](int part, int) {
#pragma unroll
        for (int j = 0; j < kStreams; ++j) {
          if (first + j >= streams) break;
          float values[kSize];
          kept[j][part].unpack(values);
#pragma unroll
          for (int view = 0; view < kViews; ++view) {
#pragma unroll
            for (int i = 0; i < kSize; ++i) inputs[view][part][i] += alpha[j][view] * values[i];
          }
        }
      });
    }
    for_parts_of_row<kSize, kParts>(dim, [&](int part, int at) {
      Part::pack(totals[part]).store(static_cast<T*>(p.sum) + token * dim + at);
#pragma unroll
      for (int view = 0; view < kViews; ++view)
        Part::pack(inputs[view][part])
            .store(static_cast<T*>(p.input) + (view * p.sizes.tokens + token) * dim + at);
    });
  }
}

struct WidthBackward {
  const void* streams;
  HyperConnectionWeights weights;
  const float* statistics;
  const void *input_grad, *sum_grad;
  const float* beta_grad;
  void* streams_grad;
  float* partial;
  Sizes sizes;
};

/// Sums over tokens of numbers that are not of a feature: for each stream the gradients of
/// static_alpha's views and static_beta, then those of the two scales.
template <int kViews>
__host__ __device__ constexpr int small_sums(int streams) {
  return streams * (kViews + 1) + 2;
}

/// With n the normed stream, u_t = n . column_t and G = sum over t of du_t column_t the gradient of
/// the normed stream times the gain (beta's column among the t), the stream's gradient is alpha_t
/// input_grad_t + sum_grad + inverse * (G - mean(G) - n * mean(G n)), where mean(G n) = sum of du_t
/// u_t / dim. Weights: the sum over tokens and streams of du_t n gives all of them.
template <class T, int kSize, int kParts, int kStreams, int kViews>
__global__ void __launch_bounds__(kThreads) hyper_width_backward_kernel(WidthBackward p) {
  using Part = Packed<T, kSize>;
  constexpr int kStatistics = kViews + 3;
  extern __shared__ float columns[];
  __shared__ float room[kWarpsOfShortRows * (kStreams * kViews + 1)];
  __shared__ float small[kWarpsOfShortRows][small_sums<kViews>(kMaxHyperStreams)];
  const int dim = p.sizes.dim, streams = p.sizes.streams, smalls = small_sums<kViews>(streams);
  for (int i = threadIdx.x; i < smalls; i += blockDim.x) small[threadIdx.y][i] = 0;
  load_columns<T, kViews>(p.weights, p.sizes, columns);
  const StreamWeights<T> weights{p.weights, streams, kViews};
  const float alpha_scale = number<T>(p.weights.alpha_scale);
  const float beta_scale = number<T>(p.weights.beta_scale);
  float levels[kViews + 1] = {};  // of the columns
  for_parts_of_row<kSize, kParts>(dim, [&](int, int at) {
#pragma unroll
    for (int view = 0; view <= kViews; ++view) {
      float column[kSize];
      load_column(columns + view * dim + at, column);
#pragma unroll
      for (int i = 0; i < kSize; ++i) levels[view] += column[i];
    }
  });
#pragma unroll
  for (auto& level : levels) {
    float one[1] = {level};
    row_sums(one, room);
    level = one[0] / dim;
  }
  float sums[kViews + 1][kParts][kSize] = {};
  const int64_t groups = int64_t{gridDim.x} * blockDim.y;
  for (int64_t token = group_of_thread(); token < p.sizes.tokens; token += groups) {
    const int64_t row_at = p.sizes.row_of(token);
    Part input_grads[kViews][kParts], sum_grads[kParts];
    for_parts_of_row<kSize, kParts>(dim, [&](int part, int at) {
#pragma unroll
      for (int view = 0; view < kViews; ++view)
        input_grads[view][part] =
            Part::load_if(p.input_grad != nullptr, static_cast<const T*>(p.input_grad) +
                                                       (view * p.sizes.tokens + token) * dim + at);
      sum_grads[part] = Part::load_if(p.sum_grad != nullptr,
                                      static_cast<const T*>(p.sum_grad) + token * dim + at);
    });
    for (int first = 0; first < streams; first += kStreams) {
      Part kept[kStreams][kParts];
      load_streams(static_cast<const T*>(p.streams) + row_at, p.sizes, first, kept);
      float alpha_grads[kStreams * kViews] = {};
      for_parts_of_row<kSize, kParts>(dim, [&](int part, int) {
#pragma unroll
        for (int view = 0; view < kViews; ++view) {
          float grads[kSize];
          input_grads[view][part].unpack(grads);
#pragma unroll
          for (int j = 0; j < kStreams; ++j) {
            float values[kSize];
            kept[j][part].unpack(values);
#pragma unroll
            for (int i = 0; i < kSize; ++i) alpha_grads[j * kViews + view] += grads[i] * values[i];
          }
        }
      });
      row_sums(alpha_grads, room);
#pragma unroll
      for (int j = 0; j < kStreams; ++j) {
        const int stream = first + j;
        if (stream >= streams) break;
        const float* statistics = p.statistics + (token * streams + stream) * kStatistics;
        const float mean = statistics[0], inverse = statistics[1];
        float alpha[kViews], along_grads[kViews + 1], level = 0, back = 0;
        float* stream_sums = small[threadIdx.y] + stream * (kViews + 1);
        float* scale_sums = small[threadIdx.y] + streams * (kViews + 1);
        const bool is_first = threadIdx.x == 0;
#pragma unroll
        for (int view = 0; view < kViews; ++view) {
          const float along = statistics[2 + view];
          alpha[view] = weights.alpha(stream, view, along);
          const float grad = alpha_grads[j * kViews + view] * alpha[view] * (1.0f - alpha[view]);
          along_grads[view] = grad * alpha_scale;
          if (is_first) {
            stream_sums[view] += grad;
            scale_sums[0] += grad * along;
          }
        }
        {
          const float along = statistics[2 + kViews], open = sigmoid(along);
          const float half = weights.beta_sigmoid(stream, along);
          const float beta_grad =
              p.beta_grad == nullptr ? 0.0f : p.beta_grad[token * streams + stream];
          const float grad = 2.0f * beta_grad * half * (1.0f - half);
          along_grads[kViews] = 2.0f * grad * beta_scale * open * (1.0f - open);
          if (is_first) {
            stream_sums[kViews] += grad;
            scale_sums[1] += 2.0f * grad * open;
          }
        }
#pragma unroll
        for (int view = 0; view <= kViews; ++view) {
          level += along_grads[view] * levels[view];
          back += along_grads[view] * statistics[2 + view];
        }
        back /= dim;
        T* row_grad = static_cast<T*>(p.streams_grad) + row_at + stream * p.sizes.stride();
        for_parts_of_row<kSize, kParts>(dim, [&](int part, int at) {
          float values[kSize], grads[kSize], normed_grads[kSize];
          kept[j][part].unpack(values);
          sum_grads[part].unpack(grads);
#pragma unroll
          for (int i = 0; i < kSize; ++i) {
            values[i] = (values[i] - mean) * inverse;
            normed_grads[i] = -level - values[i] * back;
          }
#pragma unroll
          for (int view = 0; view <= kViews; ++view) {
            float column[kSize];
            load_column(columns + view * dim + at, column);
#pragma unroll
            for (int i = 0; i < kSize; ++i) {
              normed_grads[i] += along_grads[view] * column[i];
              sums[view][part][i] += along_grads[view] * values[i];
            }
          }
#pragma unroll
          for (int view = 0; view < kViews; ++view) {
            float input_grad[kSize];
            input_grads[view][part].unpack(input_grad);
#pragma unroll
            for (int i = 0; i < kSize; ++i) grads[i] += alpha[view] * input_grad[i];
          }
#pragma unroll
          for (int i = 0; i < kSize; ++i) grads[i] += inverse * normed_grads[i];
          Part::pack(grads).store(row_grad + at);
        });
      }
    }
  }
  // The columns have been read: their place, and more behind it, is for the sums of the groups.
  float* partial = p.partial + int64_t{blockIdx.x} * ((kViews + 1) * dim + smalls);
  const int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
#pragma unroll
  for (int view = 0; view <= kViews; ++view) {
    __syncthreads();
    for_parts_of_row<kSize, kParts>(dim, [&](int part, int at) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) columns[threadIdx.y * dim + at + i] = sums[view][part][i];
    });
    __syncthreads();
    for (int at = thread; at < dim; at += threads) {
      float total = 0;
      for (unsigned group = 0; group < blockDim.y; ++group) total += columns[group * dim + at];
      partial[view * dim + at] = total;
    }
  }
  for (int i = thread; i < smalls; i += threads) {
    float total = 0;
    for (unsigned group = 0; group < blockDim.y; ++group) total += small[group][i];
    partial[(kViews + 1) * dim + i] = total;
  }
}

struct WeightGrads {
  const float* partial;
  HyperConnectionWeights weights;
  HyperConnectionGrads grads;
  int chunks, streams, dim;
};

/// Threads side by side have columns of `partial`, and those below one another every so many
/// chunks. The last blocks have the sums that are not of a feature.
template <class T, int kViews>
__global__ void hyper_weight_gradients_kernel(WeightGrads p) {
  constexpr int kLanes = 16;
  __shared__ float room[kViews + 1][kLanes][kWarp];
  const int smalls = small_sums<kViews>(p.streams), all = (kViews + 1) * p.dim + smalls;
  const int feature_blocks = (p.dim + kWarp - 1) / kWarp;
  const bool is_feature = static_cast<int>(blockIdx.x) < feature_blocks;
  const int at = (is_feature ? blockIdx.x : blockIdx.x - feature_blocks) * kWarp + threadIdx.x;
  const bool is_there = at < (is_feature ? p.dim : smalls);
  const int first = is_feature ? at : (kViews + 1) * p.dim + at;
  const int columns = is_feature ? kViews + 1 : 1;
#pragma unroll
  for (int column = 0; column <= kViews; ++column) {
    float sum = 0;
    if (is_there && column < columns) {
#pragma unroll 4
      for (int chunk = threadIdx.y; chunk < p.chunks; chunk += kLanes)
        sum += p.partial[int64_t{chunk} * all + first + column * p.dim];
    }
    room[column][threadIdx.y][threadIdx.x] = sum;
  }
  __syncthreads();
  if (threadIdx.y != 0 || !is_there) return;
  float totals[kViews + 1] = {};
#pragma unroll
  for (int column = 0; column <= kViews; ++column) {
    for (int lane = 0; lane < kLanes; ++lane) totals[column] += room[column][lane][threadIdx.x];
  }
  const auto put = [](void* memory, int64_t place, float value) {
    static_cast<T*>(memory)[place] = from_float<T>(value);
  };
  const int width = kViews + p.streams;
  if (is_feature) {
    const float gain = number<T>(p.weights.gain, at);
    float gain_grad = number<T>(p.weights.beta_fn, at) * totals[kViews];
    for (int column = 0; column < width; ++column)
      if (column >= kViews) put(p.grads.alpha_fn, int64_t{at} * width + column, 0.0f);
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      gain_grad += number<T>(p.weights.alpha_fn, int64_t{at} * width + view) * totals[view];
      put(p.grads.alpha_fn, int64_t{at} * width + view, gain * totals[view]);
    }
    put(p.grads.beta_fn, at, gain * totals[kViews]);
    put(p.grads.gain, at, gain_grad);
    return;
  }
  const int stream = at / (kViews + 1), view = at % (kViews + 1);
  if (stream >= p.streams) {
    put(view == 0 ? p.grads.alpha_scale : p.grads.beta_scale, 0, totals[0]);
  } else if (view == kViews) {
    put(p.grads.static_beta, stream, totals[0]);
    for (int column = kViews; column < width; ++column)
      put(p.grads.static_alpha, stream * width + column, 0.0f);
  } else {
    put(p.grads.static_alpha, stream * width + view, totals[0]);
  }
}

/// Blocks that go over the tokens of a pass, so many for each multiprocessor at most.
unsigned blocks_for(int64_t tokens, unsigned at_once, int64_t of_each) {
  constexpr int64_t kMultiprocessors = 132;
  const int64_t all = (tokens + at_once - 1) / at_once;
  return static_cast<unsigned>(std::min(all, kMultiprocessors * of_each));
}

template <class T, int kSize, int kViews>
void launch(const HyperWidth& params, cudaStream_t stream) {
  const WidthForward p{params.streams, params.weights,    params.input,    params.sum,
                       params.beta,    params.statistics, sizes_of(params)};
  const size_t bytes = (kViews + 1) * params.dim * sizeof(float);
  with_parts<kSize>(params.dim, [&](auto parts) {
    const auto block = block_for(params.dim, kSize, parts);
    constexpr int kStreams = AtOnce<kSize, kViews>::kForward;
    hyper_width_forward_kernel<T, kSize, parts, kStreams, kViews>
        <<<blocks_for(p.sizes.tokens, block.y, 12), block, bytes, stream>>>(p);
  });
}

template <class T, int kSize, int kViews>
void launch(const HyperWidthBackward& params, cudaStream_t stream) {
  const WidthBackward p{params.streams,      params.weights,  params.statistics,
                        params.input_grad,   params.sum_grad, params.beta_grad,
                        params.streams_grad, params.partial,  sizes_of(params)};
  const auto blocks = static_cast<unsigned>(hyper_width_chunks(p.sizes.tokens));
  with_parts<kSize>(params.dim, [&](auto parts) {
    const auto block = block_for(params.dim, kSize, parts);
    constexpr int kStreams = AtOnce<kSize, kViews>::kBackward;
    const size_t bytes = std::max<size_t>(kViews + 1, block.y) * params.dim * sizeof(float);
    hyper_width_backward_kernel<T, kSize, parts, kStreams, kViews>
        <<<blocks, block, bytes, stream>>>(p);
  });
  const WeightGrads grads{params.partial,           params.weights,  params.grads,
                          static_cast<int>(blocks), p.sizes.streams, p.sizes.dim};
  const int columns =
      (p.sizes.dim + kWarp - 1) / kWarp + (small_sums<kViews>(p.sizes.streams) + kWarp - 1) / kWarp;
  hyper_weight_gradients_kernel<T, kViews><<<columns, dim3(kWarp, 16), 0, stream>>>(grads);
}

bool are_aligned(const HyperWidth& p) { return hyper::are_aligned({p.streams, p.input, p.sum}); }
bool are_aligned(const HyperWidthBackward& p) {
  return hyper::are_aligned({p.streams, p.input_grad, p.sum_grad, p.streams_grad});
}

template <class Params>
cudaError_t run(const Params& params, cudaStream_t stream) {
  return with_vectors(params, are_aligned(params), [&](auto number, auto size) {
    using T = decltype(number);
    params.views == 1 ? launch<T, size, 1>(params, stream) : launch<T, size, 3>(params, stream);
  });
}

}  // namespace

cudaError_t hyper_width_forward(const HyperWidth& params, cudaStream_t stream) {
  return run(params, stream);
}

cudaError_t hyper_width_backward(const HyperWidthBackward& params, cudaStream_t stream) {
  return run(params, stream);
}

int64_t hyper_width_chunks(int64_t tokens) {
  return blocks_for(tokens, kWarpsOfShortRows, 3);  // those that run at once
}

int64_t hyper_width_columns(int64_t dim, int64_t streams, int64_t views) {
  return (views + 1) * dim + streams * (views + 1) + 2;
}

}  // namespace x_transformers::kernels::cuda
