// A block has eight or sixteen outputs at a time and all rows of x, as tiles of the tensor cores:
// m16n8k16 with the rows of x as m and outputs as n. Its warps share the features between them, and
// their sums are added up in shared memory, in a fixed order. Which feature of the weight stands
// where in a tile does not matter as long as x agrees, so a lane reads eight features side by side
// of either, which are two tiles' worth. Weights go to shared memory, each lane's to a place of its
// own: those of a block's first outputs are on their way before it waits for the kernel before, and
// those of the next while it adds up.
#include "x_transformers/kernels/cuda/few_rows_tiles.cuh"

#include <algorithm>

#include "x_transformers/kernels/cuda/curves.cuh"
#include "x_transformers/kernels/cuda/device/async_copy.cuh"
#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"
#include "x_transformers/kernels/cuda/device/fresh.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kTile = 8;       ///< outputs of a tile
constexpr int kFeatures = 32;  ///< of a step: four lanes have eight each
constexpr int kSize = 8;       ///< features of a lane, 16 bytes

/// Eight numbers of 16 bits.
struct Eight {
  unsigned pairs[4] = {0, 0, 0, 0};
};

/// Reads what an earlier kernel wrote, past the first level of the cache, which may be older.
__device__ Eight load_eight(const void* memory) {
  const uint4 x = __ldcg(static_cast<const uint4*>(memory));
  return {{x.x, x.y, x.z, x.w}};
}

/// sums += a b for a tile: sums[0..1] of row lane / 4, sums[2..3] of the row eight below, of the
/// outputs 2 (lane % 4) and the next.
template <class T>
__device__ void multiply_tile(float (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                              unsigned b0, unsigned b1);
template <>
__device__ void multiply_tile<__nv_bfloat16>(float (&sums)[4], unsigned a0, unsigned a1,
                                             unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
template <>
__device__ void multiply_tile<__half>(float (&sums)[4], unsigned a0, unsigned a1, unsigned a2,
                                      unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ float activate(ActivationKind kind, float x) {
  switch (kind) {
#define XT_KIND(kind)        \
  case ActivationKind::kind: \
    return Curve<ActivationKind::kind, false>::value(x);
    XT_KIND(identity)
    XT_KIND(relu)
    XT_KIND(relu_squared)
    XT_KIND(gelu)
    XT_KIND(gelu_tanh)
    XT_KIND(silu)
    XT_KIND(sigmoid)
    XT_KIND(tanh)
#undef XT_KIND
  }
  return x;
}

/// Where things lie in shared memory: the weights, the gain of the norm, and the rows, so far apart
/// that lanes which read two rows at once use all banks.
struct Staged {
  int weights, gain, pitch;  ///< bytes
  __host__ __device__ Staged(int weight_bytes, int64_t dim) : weights(weight_bytes) {
    constexpr int kLine = 128;
    gain = static_cast<int>((dim * 2 + kLine - 1) / kLine) * kLine;
    pitch = gain + kLine / 2;
  }
  __host__ __device__ int bytes(int64_t rows) const {
    return weights + gain + static_cast<int>(rows) * pitch;
  }
  template <class T>
  __device__ T* row(char* room, int row) const {
    return reinterpret_cast<T*>(room + weights + gain + row * pitch);
  }
};

/// The outputs of all layers, cut into groups: one for a block at a time.
struct Plan {
  FewRowsOfLayers call;
  int firsts[FewRowsOfLayers::kMostLayers] = {};  ///< groups of the layers
  int outputs[FewRowsOfLayers::kMostLayers] = {};
  int groups = 0;
  bool stages_x = false;

  Plan(const FewRowsOfLayers& params, int size) : call(params) {
    for (int i = 0; i < params.count; ++i) {
      firsts[i] = groups;
      outputs[i] =
          static_cast<int>(params.gated ? params.layers[i].dim_out / 2 : params.layers[i].dim_out);
      groups += (outputs[i] + size - 1) / size;
    }
  }
};

/// Zeros behind a row, up to the end of its last step.
template <class T>
__device__ void pad_row(T* row, int dim) {
  const int padded = (dim + kFeatures - 1) / kFeatures * kFeatures;
  for (int at = dim + threadIdx.x % kWarp; at < padded; at += kWarp) row[at] = from_float<T>(0.0f);
}

/// Copies the rows into shared memory.
template <class T>
__device__ void copy_rows(const FewRowsOfLayers& p, const Staged& staged, char* room) {
  constexpr int kTogether = 4;
  const int dim = static_cast<int>(p.dim), rows = static_cast<int>(p.rows), parts = dim / kSize;
  const T* x = static_cast<const T*>(p.x);
  for (int base = threadIdx.x; base < rows * parts; base += kTogether * kThreads) {
    Eight loaded[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int at = base + i * kThreads;
      if (at < rows * parts) loaded[i] = load_eight(x + at * kSize);
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int at = base + i * kThreads, row = at / parts;
      if (at < rows * parts)
        *reinterpret_cast<Eight*>(staged.row<T>(room, row) + (at - row * parts) * kSize) =
            loaded[i];
    }
  }
  for (int row = threadIdx.x / kWarp; row < rows; row += kWarps)
    pad_row(staged.row<T>(room, row), dim);
}

/// The part of a row that a lane has while it is normalised: vectors so far apart.
constexpr int kApart = kWarp * kSize;

/// Normalises the rows into shared memory, a row for each warp at a time. A lane keeps kParts
/// vectors of its row; with kParts 0 they go through shared memory, where it alone reads them.
template <class T, int kParts>
__device__ void normalise(const FewRowsOfLayers& p, const Staged& staged, char* room) {
  using Part = Vector<T, kSize>;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, dim = static_cast<int>(p.dim);
  const int first = lane * kSize;
  const T* gains = reinterpret_cast<const T*>(room + staged.weights);
  const bool is_centred = p.norm.kind == FewRowsNorm::Kind::layer;
  for (int row = warp; row < p.rows; row += kWarps) {
    const T* x = static_cast<const T*>(p.x) + row * dim;
    T* y = staged.row<T>(room, row);
    Part kept[kParts > 0 ? kParts : 1];
    // body(vector, feature) for the vectors of this lane; `changes` them.
    const auto each = [&](bool changes, const auto& body) {
      if constexpr (kParts > 0) {
#pragma unroll
        for (int i = 0; i < kParts; ++i) {
          if (first + i * kApart < dim) body(kept[i], first + i * kApart);
        }
      } else {
        for (int at = first; at < dim; at += kApart) {
          auto part = Part::load(y + at);
          body(part, at);
          if (changes) part.store(y + at);
        }
      }
    };
    if constexpr (kParts > 0) {
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        if (first + i * kApart >= dim) continue;
        const auto loaded = load_eight(x + first + i * kApart);
        kept[i] = *reinterpret_cast<const Part*>(&loaded);
      }
    } else {
#pragma unroll 4
      for (int at = first; at < dim; at += kApart)
        *reinterpret_cast<Eight*>(y + at) = load_eight(x + at);
    }
    float sum = 0;
    if (is_centred) {
      each(false, [&](const Part& part, int) {
#pragma unroll
        for (int j = 0; j < kSize; ++j) sum += to_float(part.values[j]);
      });
      sum = warp_sum(sum);
    }
    const float mean = is_centred ? sum / dim : 0.0f;
    float squares = 0;
    each(false, [&](const Part& part, int) {
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        const float value = to_float(part.values[j]) - mean;
        squares += value * value;
      }
    });
    squares = warp_sum(squares);
    float factor;
    if (is_centred) {
      factor = rsqrtf(squares / dim + p.norm.epsilon);
    } else {
      const float norm = sqrtf(squares);
      factor = p.norm.scale / (norm < p.norm.epsilon ? p.norm.epsilon : norm);  // keeps NaN
    }
    const bool has_gain = p.norm.gain.weight != nullptr;
    each(true, [&](Part& part, int at) {
      Part gain;
      if (has_gain) gain = Part::load(gains + at);
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        float value = (to_float(part.values[j]) - mean) * factor;
        if (has_gain) value *= to_float(gain.values[j]) + p.norm.gain.offset;
        part.values[j] = from_float<T>(value);
      }
      if (kParts > 0) part.store(y + at);
    });
    pad_row(y, dim);
  }
}

/// A group of outputs: its layer, and the first of them.
struct Place {
  int layer = 0, first = 0;
};

/// kSteps of a warp's features are read at once. kUpper: there are more than eight rows. kGated:
/// half of the tiles are of values, half of their gates.
template <class T, int kTiles, int kSteps, bool kUpper, bool kGated>
class Block {
 public:
  static constexpr int kOutputs = kGated ? kTiles * kTile / 2 : kTiles * kTile;  ///< of a group
  static constexpr int kWeightBytes = kTiles * kSteps * kThreads * sizeof(Eight);

  __device__ Block(const Plan& plan, char* room)
      : plan_(plan), p_(plan.call), staged_(kWeightBytes, plan.call.dim), room_(room) {
    const int warp = threadIdx.x / kWarp;
    dim_ = static_cast<int>(p_.dim);
    const int steps = (dim_ + kFeatures - 1) / kFeatures;
    const int of_warp = (steps + kWarps - 1) / kWarps, first_step = warp * of_warp;
    steps_ = max(0, min(of_warp, steps - first_step));
    row_ = threadIdx.x % kWarp / 4;
    feature_ = first_step * kFeatures + threadIdx.x % 4 * kSize;
  }

  __device__ void run() {
    int group = blockIdx.x;
    Place place = place_of(group);
    if (!p_.weights_are_old) wait_for_earlier();
    if (is_normalised()) load_gain();
    load_weights(place, 0);
    float bias = load_bias(place, 0), gate_bias = kGated ? load_bias(place, 1) : 0.0f;
    wait_for_earlier();
    let_next_begin();
    float residual = load_residual(place);
    if (is_normalised()) {
      wait_for_copies_but<1>();
      __syncthreads();  // the gain is there
      dim_ <= 4 * kApart ? normalise<T, 4>(p_, staged_, room_)
                         : normalise<T, 0>(p_, staged_, room_);
    } else if (plan_.stages_x) {
      copy_rows<T>(p_, staged_, room_);
    }
    if (plan_.stages_x) __syncthreads();
    for (int turn = 0;; turn = 1 - turn) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums_[tile][i] = 0;
      }
      wait_for_copies_but<0>();
      multiply(0);
      for (int step = kSteps; step < steps_; step += kSteps) {
        load_weights(place, step);
        wait_for_copies_but<0>();
        multiply(step);
      }
      const Place now = place;
      const float bias_now = bias, gate_bias_now = gate_bias, residual_now = residual;
      group += gridDim.x;
      const bool goes_on = group < plan_.groups;
      if (goes_on) {
        place = place_of(group);
        load_weights(place, 0);
        bias = load_bias(place, 0);
        if (kGated) gate_bias = load_bias(place, 1);
        residual = load_residual(place);
      }
      add_up(now, turn, bias_now, gate_bias_now, residual_now);
      if (!goes_on) break;
    }
  }

 private:
  static constexpr int kRows = kUpper ? 16 : 8;

  __device__ bool is_normalised() const { return p_.norm.kind != FewRowsNorm::Kind::none; }

  __device__ Place place_of(int group) const {
    Place place;
#pragma unroll
    for (int i = 1; i < FewRowsOfLayers::kMostLayers; ++i) {
      if (i < p_.count && group >= plan_.firsts[i]) place.layer = i;
    }
    place.first = (group - plan_.firsts[place.layer]) * kOutputs;
    return place;
  }

  __device__ void load_weights(const Place& place, int step) {
    const int outputs = plan_.outputs[place.layer];
    const T* weights = static_cast<const T*>(p_.layers[place.layer].weight) + feature_;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      constexpr int kHalf = kGated ? kTiles / 2 : kTiles;
      // Beyond the last output any will do, as it is not written.
      const int output = min(place.first + tile % kHalf * kTile + row_, outputs - 1) +
                         (tile < kHalf ? 0 : outputs);
      const T* weight = weights + int64_t{output} * dim_ + step * kFeatures;
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        if (step + i >= steps_) break;
        copy_chunk(weight_of(tile, i), weight + i * kFeatures,
                   feature_ + (step + i) * kFeatures < dim_);
      }
    }
    end_copies();
  }

  /// This lane's weights of a tile at a step of those read at once.
  __device__ Eight* weight_of(int tile, int step) const {
    return reinterpret_cast<Eight*>(room_) + (tile * kSteps + step) * kThreads + threadIdx.x;
  }

  /// Row `row` of x at a step of this lane.
  __device__ Eight load_x(int row, int step) const {
    const int at = feature_ + step * kFeatures;
    if (row >= p_.rows || step >= steps_) return {};
    if (plan_.stages_x)
      return *reinterpret_cast<const Eight*>(staged_.template row<const T>(room_, row) + at);
    return at < dim_ ? load_eight(static_cast<const T*>(p_.x) + row * dim_ + at) : Eight();
  }

  __device__ void multiply(int step) {
    constexpr int kTogether = kSteps < 4 ? kSteps : 4;
#pragma unroll
    for (int base = 0; base < kSteps; base += kTogether) {
      Eight x[kTogether], below[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        x[i] = load_x(row_, step + base + i);
        if (kUpper) below[i] = load_x(row_ + 8, step + base + i);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (step + base + i >= steps_) break;
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const Eight w = *weight_of(tile, base + i);
#pragma unroll
          for (int half = 0; half < 4; half += 2) {
            multiply_tile<T>(sums_[tile], x[i].pairs[half], below[i].pairs[half],
                             x[i].pairs[half + 1], below[i].pairs[half + 1], w.pairs[half],
                             w.pairs[half + 1]);
          }
        }
      }
    }
  }

  // Each thread writes one number of a group.
  static __device__ int row_of_thread() { return threadIdx.x / kOutputs; }
  static __device__ int column_of_thread() { return threadIdx.x % kOutputs; }
  __device__ bool writes(const Place& place) const {
    return row_of_thread() < p_.rows &&
           place.first + column_of_thread() < plan_.outputs[place.layer];
  }
  __device__ float load_bias(const Place& place, int half) const {
    const T* bias = static_cast<const T*>(p_.layers[place.layer].bias);
    if (bias == nullptr || !writes(place)) return 0;
    return to_float(bias[half * plan_.outputs[place.layer] + place.first + column_of_thread()]);
  }
  /// Where the number of this thread is in the output, and in the residual.
  __device__ int64_t place_in_out(const Place& place) const {
    return int64_t{row_of_thread()} * plan_.outputs[place.layer] + place.first + column_of_thread();
  }
  __device__ float load_residual(const Place& place) const {
    if (p_.residual == nullptr || !writes(place)) return 0;
    return to_float(load_fresh(static_cast<const T*>(p_.residual) + place_in_out(place)));
  }

  /// Adds up the sums of the warps and writes the outputs. `turn` is 0 and 1 in turns, so that one
  /// barrier a group is enough.
  __device__ void add_up(const Place& place, int turn, float bias, float gate_bias,
                         float residual) const {
    __shared__ float room[2][kWarps][kTiles][kRows][kTile];
    const int warp = threadIdx.x / kWarp, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      auto& mine = room[turn][warp][tile];
      *reinterpret_cast<float2*>(&mine[row_][column]) = {sums_[tile][0], sums_[tile][1]};
      if (kUpper)
        *reinterpret_cast<float2*>(&mine[row_ + 8][column]) = {sums_[tile][2], sums_[tile][3]};
    }
    __syncthreads();
    if (!writes(place)) return;
    const auto sum = [&](int tile) {
      float total = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w)
        total += room[turn][w][tile][row_of_thread()][column_of_thread() % kTile];
      return total;
    };
    const int tile = column_of_thread() / kTile;
    float y = sum(tile) + bias;
    if (kGated) {
      y *= activate(p_.activation, sum(tile + kTiles / 2) + gate_bias);
    } else {
      y = activate(p_.activation, y);
    }
    static_cast<T*>(p_.layers[place.layer].out)[place_in_out(place)] = from_float<T>(y + residual);
  }

  __device__ void load_gain() const {
    if (p_.norm.gain.weight == nullptr) return end_copies();
    const T* gain = static_cast<const T*>(p_.norm.gain.weight);
    T* to = reinterpret_cast<T*>(room_ + staged_.weights);
    for (int at = threadIdx.x * kSize; at < dim_; at += kThreads * kSize)
      copy_chunk(to + at, gain + at, true);
    end_copies();
  }

  const Plan& plan_;
  const FewRowsOfLayers& p_;
  const Staged staged_;
  char* room_;
  int dim_, steps_;    ///< steps of this warp
  int row_, feature_;  ///< of this lane: also the output of a tile; and the first feature
  float sums_[kTiles][4];
};

template <class T, int kTiles, int kSteps, bool kUpper, bool kGated>
__global__ void __launch_bounds__(kThreads)
    few_rows_tiles_kernel(const __grid_constant__ Plan plan) {
  extern __shared__ uint4 room[];
  Block<T, kTiles, kSteps, kUpper, kGated>(plan, reinterpret_cast<char*>(room)).run();
}

/// Blocks that fill the GPU: more outputs come in turns.
int most_blocks() {
  static const int blocks = [] {
    constexpr int kOfEach = 2;
    int device = 0, count = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
      count = 1;
    return count * kOfEach;
  }();
  return blocks;
}

template <class T, int kTiles, int kSteps, bool kUpper, bool kGated>
cudaError_t launch(const FewRowsOfLayers& params, cudaStream_t stream) {
  // Shared memory that a kernel may have unasked, and that of the sums.
  constexpr int kUnasked = 48 * 1024, kOfSums = 16 * 1024, kMostCopied = 48 * 1024;
  using Blocks = Block<T, kTiles, kSteps, kUpper, kGated>;
  Plan plan(params, Blocks::kOutputs);
  const auto kernel = few_rows_tiles_kernel<T, kTiles, kSteps, kUpper, kGated>;
  int bytes = Staged(0, params.dim).bytes(params.rows);
  plan.stages_x = params.norm.kind != FewRowsNorm::Kind::none || bytes <= kMostCopied;
  bytes = (plan.stages_x ? bytes : 0) + Blocks::kWeightBytes;
  if (bytes + kOfSums > kUnasked) {
    const auto allowed =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (allowed != cudaSuccess) return allowed;
  }
  const dim3 blocks(std::min(plan.groups, most_blocks()));
  return launch_early(kernel, {blocks, dim3(kThreads), static_cast<size_t>(bytes)}, stream, plan);
}

template <class T, bool kUpper>
cudaError_t launch_tiles(const FewRowsOfLayers& params, cudaStream_t stream) {
  // Where there are few outputs, smaller groups keep more of the GPU busy.
  constexpr int64_t kFeaturesOfFour = 4 * kWarps * kFeatures, kManyOutputs = 1536;
  int64_t outputs = 0;
  for (int i = 0; i < params.count; ++i) outputs += params.layers[i].dim_out;
  const bool is_short = params.dim <= kFeaturesOfFour;
  if (params.gated) {
    return is_short ? launch<T, 2, 4, kUpper, true>(params, stream)
                    : launch<T, 2, 8, kUpper, true>(params, stream);
  }
  if (outputs >= kManyOutputs) {
    return is_short ? launch<T, 2, 4, kUpper, false>(params, stream)
                    : launch<T, 2, 8, kUpper, false>(params, stream);
  }
  return is_short ? launch<T, 1, 4, kUpper, false>(params, stream)
                  : launch<T, 1, 16, kUpper, false>(params, stream);
}

template <class T>
cudaError_t launch_rows(const FewRowsOfLayers& params, cudaStream_t stream) {
  return params.rows > kTile ? launch_tiles<T, true>(params, stream)
                             : launch_tiles<T, false>(params, stream);
}

}  // namespace

cudaError_t few_rows_in_tiles(const FewRowsOfLayers& params, cudaStream_t stream) {
  return params.element == Element::float16 ? launch_rows<__half>(params, stream)
                                            : launch_rows<__nv_bfloat16>(params, stream);
}

}  // namespace x_transformers::kernels::cuda
