// Some outputs of a linear layer of a few rows, by one block. A block has eight or sixteen outputs
// at a time and all rows of x, as tiles of the tensor cores: m16n8k16 with the rows of x as m and
// outputs as n. Its warps share the features between them, and their sums are added up in shared
// memory, in a fixed order. Which feature of the weight stands where in a tile does not matter as
// long as x agrees, so a lane reads eight features side by side of either, which are two tiles'
// worth. Weights go to shared memory, each lane's to a place of its own: those of a block's first
// outputs are on their way before it waits for the kernel before, and those of the next while it
// adds up.
#pragma once

#include "x_transformers/kernels/cuda/curves.cuh"
#include "x_transformers/kernels/cuda/device/async_copy.cuh"
#include "x_transformers/kernels/cuda/device/fresh.cuh"
#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/few_rows_weights.cuh"
#include "x_transformers/kernels/few_rows.h"

namespace x_transformers::kernels::cuda::few_rows {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kTile = 8;       ///< outputs of a tile
constexpr int kFeatures = 32;  ///< of a step: four lanes have eight each
constexpr int kSize = 8;       ///< features of a lane, 16 bytes

__device__ inline Eight load_eight(const void* memory) {
  const uint4 x = load_fresh_words(memory);
  return {{x.x, x.y, x.z, x.w}};
}

/// sums += a b for a tile: sums[0..1] of row lane / 4, sums[2..3] of the row eight below, of the
/// outputs 2 (lane % 4) and the next.
template <class T>
__device__ void multiply_tile(float (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                              unsigned b0, unsigned b1);
template <>
__device__ inline void multiply_tile<__nv_bfloat16>(float (&sums)[4], unsigned a0, unsigned a1,
                                                    unsigned a2, unsigned a3, unsigned b0,
                                                    unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
template <>
__device__ inline void multiply_tile<__half>(float (&sums)[4], unsigned a0, unsigned a1,
                                             unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ inline float activate(ActivationKind kind, float x) {
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
/// that lanes which read two rows at once use all banks. In bytes.
struct Staged {
  int gain, rows, pitch;

  __host__ __device__ Staged(int weight_bytes, int64_t dim)
      : gain(weight_bytes), rows(weight_bytes + line_of(dim)), pitch(line_of(dim) + kLine / 2) {}
  __host__ __device__ int bytes(int64_t count) const {
    return rows + static_cast<int>(count) * pitch;
  }
  template <class T>
  __device__ T* row(char* room, int row) const {
    return reinterpret_cast<T*>(room + rows + row * pitch);
  }

 private:
  static constexpr int kLine = 128;
  static __host__ __device__ int line_of(int64_t dim) {
    return static_cast<int>((dim * 2 + kLine - 1) / kLine) * kLine;
  }
};

/// The outputs of all layers, cut into groups: one for a block at a time.
struct Plan {
  FewRowsOfLayers call;
  int firsts[FewRowsOfLayers::kMaxLayers] = {};  ///< groups of the layers
  int outputs[FewRowsOfLayers::kMaxLayers] = {};
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
#pragma unroll 1
  for (int at = dim + threadIdx.x % kWarp; at < padded; at += kWarp) row[at] = from_float<T>(0.0f);
}

/// Rows in memory, dense, and where they go in shared memory, `pitch` bytes apart.
template <class T>
struct Rows {
  const T* x;
  char* to;
  int pitch, rows, dim;

  __device__ T* staged(int row) const { return reinterpret_cast<T*>(to + row * pitch); }
};

/// Copies the rows into shared memory.
template <class T>
__device__ void copy_rows(Rows<T> p) {
  constexpr int kTogether = 4;
  const int parts = p.dim / kSize, last = p.rows * parts - 1;
#pragma unroll 1
  for (int base = threadIdx.x; base <= last; base += kTogether * kThreads) {
    Eight loaded[kTogether];
    // Beyond the end the last once more, so that all are on their way together.
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
      loaded[i] = load_eight(p.x + min(base + i * kThreads, last) * kSize);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int at = min(base + i * kThreads, last), row = at / parts;
      *reinterpret_cast<Eight*>(p.staged(row) + (at - row * parts) * kSize) = loaded[i];
    }
  }
#pragma unroll 1
  for (int row = threadIdx.x / kWarp; row < p.rows; row += kWarps) pad_row(p.staged(row), p.dim);
}

/// A row that a warp normalises: a lane has eight features of every kApart. Nothing here depends on
/// a condition that would keep the loads from being on their way together.
template <class T, int kParts>
struct RowOfWarp {
  using Part = Packed<T, kSize>;
  Part parts[kParts];

  /// Beyond the end are the last features once more.
  __device__ void load(const T* x, int dim) {
#pragma unroll
    for (int i = 0; i < kParts; ++i)
      parts[i] = {load_fresh_words(x + min(feature() + i * kApart, dim - kSize))};
  }

  /// Of the sum over the row of value(x).
  template <class Value>
  __device__ float sum(int dim, const Value& value) const {
    float total = 0;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      float values[kSize], part = 0;
      parts[i].unpack(values);
#pragma unroll
      for (int j = 0; j < kSize; ++j) part += value(values[j]);
      total += feature() + i * kApart < dim ? part : 0.0f;
    }
    return warp_sum(total);
  }

  /// y = (x - mean) * factor * (gain + offset), where `gains` is nullptr without the gain.
  __device__ void store(T* y, int dim, float mean, float factor, const T* gains,
                        float offset) const {
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int at = feature() + i * kApart;
      if (at >= dim) continue;
      float values[kSize], gain[kSize];
      parts[i].unpack(values);
      if (gains != nullptr) Part::load(gains + at).unpack(gain);
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        values[j] = (values[j] - mean) * factor;
        if (gains != nullptr) values[j] *= gain[j] + offset;
      }
      *reinterpret_cast<uint4*>(y + at) = Part::pack(values).words;
    }
  }

 private:
  static constexpr int kApart = kWarp * kSize;
  static __device__ int feature() { return static_cast<int>(threadIdx.x) % kWarp * kSize; }
};

/// How rows are normalised.
template <class T>
struct Norm {
  bool is_centred;
  float epsilon, scale, offset;
  const T* gains;  ///< in shared memory; nullptr: without

  /// What a row is multiplied with, from the sum of its squares around the mean.
  __device__ float factor(float squares, int dim) const {
    if (is_centred) return rsqrtf(squares / dim + epsilon);
    const float length = sqrtf(squares);
    return scale / (length < epsilon ? epsilon : length);  // keeps NaN
  }
};

/// The most features of a row that a warp keeps in registers.
constexpr int kKeptParts = 4, kMaxKept = kKeptParts * kWarp * kSize;

/// Normalises rows of at most kMaxKept features into shared memory, each by a warp.
template <class T>
__device__ void normalise(Rows<T> p, Norm<T> norm) {
#pragma unroll 1
  for (int row = threadIdx.x / kWarp; row < p.rows; row += kWarps) {
    RowOfWarp<T, kKeptParts> x;
    x.load(p.x + row * p.dim, p.dim);
    const float mean = norm.is_centred ? x.sum(p.dim, [](float v) { return v; }) / p.dim : 0.0f;
    const float squares = x.sum(p.dim, [mean](float v) { return (v - mean) * (v - mean); });
    x.store(p.staged(row), p.dim, mean, norm.factor(squares, p.dim), norm.gains, norm.offset);
    pad_row(p.staged(row), p.dim);
  }
}

/// The same for longer rows, which are there already.
template <class T>
__device__ void normalise_long(Rows<T> p, Norm<T> norm) {
  using Part = Packed<T, kSize>;
  const int lane = threadIdx.x % kWarp, dim = p.dim;
#pragma unroll 1
  for (int row = threadIdx.x / kWarp; row < p.rows; row += kWarps) {
    T* y = p.staged(row);
    // The sum over the row of value(x).
    const auto sum = [&](const auto& value) {
      float total = 0;
#pragma unroll 1
      for (int at = lane * kSize; at < dim; at += kWarp * kSize) {
        float values[kSize];
        Part::load(y + at).unpack(values);
#pragma unroll
        for (int j = 0; j < kSize; ++j) total += value(values[j]);
      }
      return warp_sum(total);
    };
    const float mean = norm.is_centred ? sum([](float v) { return v; }) / dim : 0.0f;
    const float squares = sum([mean](float v) { return (v - mean) * (v - mean); });
    const float factor = norm.factor(squares, dim);
#pragma unroll 1
    for (int at = lane * kSize; at < dim; at += kWarp * kSize) {
      float values[kSize], gain[kSize];
      Part::load(y + at).unpack(values);
      if (norm.gains != nullptr) Part::load(norm.gains + at).unpack(gain);
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        values[j] = (values[j] - mean) * factor;
        if (norm.gains != nullptr) values[j] *= gain[j] + norm.offset;
      }
      *reinterpret_cast<uint4*>(y + at) = Part::pack(values).words;
    }
  }
}

/// A group of outputs of a layer, from the first on.
template <class T>
struct Place {
  const char* weight;
  const T* bias;
  T* out;
  int first, outputs;  ///< outputs of the layer
};

/// Brings the rows to shared memory, if they are to be there; the gain of their norm is on its way.
template <class T>
__device__ void stage_rows(const Plan& plan, const Staged& staged, char* room) {
  if (!plan.stages_x) return;
  const auto& call = plan.call;
  const auto& norm = call.norm;
  const int dim = static_cast<int>(call.dim);
  const Rows<T> rows{static_cast<const T*>(call.x), room + staged.rows, staged.pitch,
                     static_cast<int>(call.rows), dim};
  const Norm<T> values{
      norm.kind == FewRowsNorm::Kind::layer, norm.epsilon, norm.scale, norm.gain.offset,
      norm.gain.weight == nullptr ? nullptr : reinterpret_cast<const T*>(room + staged.gain)};
  const bool is_long = dim > kMaxKept, is_normalised = norm.kind != FewRowsNorm::Kind::none;
  if (is_long || !is_normalised) copy_rows(rows);
  if (is_normalised) {
    wait_for_copies_but<1>();
    __syncthreads();  // the gain is there, and the rows
    is_long ? normalise_long(rows, values) : normalise(rows, values);
  }
  __syncthreads();
}

/// Weights (few_rows_weights.cuh) of kSteps of a warp's features are read at once. kUpper: there
/// are more than eight rows. kGated: half of the tiles are of values, half of their gates. In this
/// order: load_first, what else the caller waits for, stage_rows, run.
template <class Weights, int kTiles, int kSteps, bool kUpper, bool kGated>
class Block {
  using T = typename Weights::Number;
  static constexpr int kSlots = kTiles * kSteps * kThreads;

 public:
  using Number = T;
  static constexpr int kOutputs = kGated ? kTiles * kTile / 2 : kTiles * kTile;  ///< of a group
  static constexpr int kWeightBytes = kSlots * Weights::kSlotBytes;
  static constexpr int kRows = kUpper ? 16 : 8;
  using Sums = float[kWarps][kTiles][kRows][kTile];
  static constexpr int kSumBytes = 2 * sizeof(Sums);

  /// `sums` has kSumBytes, `room` what `staged` says.
  __device__ Block(const Plan& plan, const Staged& staged, char* room, char* sums)
      : plan_(plan),
        staged_(staged),
        room_(room),
        sums_of_warps_(reinterpret_cast<Sums*>(sums)),
        x_(static_cast<const T*>(plan.call.x)),
        residual_(static_cast<const T*>(plan.call.residual)),
        rows_(static_cast<int>(plan.call.rows)),
        dim_(static_cast<int>(plan.call.dim)),
        groups_(plan.groups),
        activation_(plan.call.activation),
        is_normalised_(plan.call.norm.kind != FewRowsNorm::Kind::none),
        stages_x_(plan.stages_x) {
    const int warp = threadIdx.x / kWarp;
    const int steps = (dim_ + kFeatures - 1) / kFeatures;
    const int of_warp = (steps + kWarps - 1) / kWarps, first_step = warp * of_warp;
    steps_ = max(0, min(of_warp, steps - first_step));
    row_ = threadIdx.x % kWarp / 4;
    feature_ = first_step * kFeatures + threadIdx.x % 4 * kSize;
  }

  /// Begins to copy the gain and the weights of the first outputs, and reads their biases.
  __device__ void load_first() {
    const auto place = place_of(static_cast<int>(blockIdx.x));
    if (is_normalised_) load_gain();
    load_weights(place, 0);
    bias_ = load_bias(place, 0);
    if (kGated) gate_bias_ = load_bias(place, 1);
  }

  /// Computes the outputs.
  __device__ void run() {
    int group = static_cast<int>(blockIdx.x);
    auto place = place_of(group);
    float residual = load_residual(place);
#pragma unroll 1
    for (int turn = 0;; turn = 1 - turn) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums_[tile][0][i] = sums_[tile][1][i] = 0;
      }
      wait_for_copies_but<0>();
      multiply(0);
#pragma unroll 1
      for (int step = kSteps; step < steps_; step += kSteps) {
        load_weights(place, step);
        wait_for_copies_but<0>();
        multiply(step);
      }
      const auto now = place;
      const float bias = bias_, gate_bias = gate_bias_, residual_now = residual;
      group += static_cast<int>(gridDim.x);
      const bool goes_on = group < groups_;
      if (goes_on) {
        place = place_of(group);
        load_weights(place, 0);
        bias_ = load_bias(place, 0);
        if (kGated) gate_bias_ = load_bias(place, 1);
        residual = load_residual(place);
      }
      add_up(now, turn, bias, gate_bias, residual_now);
      if (!goes_on) break;
    }
  }

 private:
  using Group = Place<T>;

  __device__ Group place_of(int group) const {
    const auto& call = plan_.call;
    int layer = 0;
#pragma unroll
    for (int i = 1; i < FewRowsOfLayers::kMaxLayers; ++i) {
      if (i < call.count && group >= plan_.firsts[i]) layer = i;
    }
    const auto& of = call.layers[layer];
    return {static_cast<const char*>(of.weight), static_cast<const T*>(of.bias),
            static_cast<T*>(of.out), (group - plan_.firsts[layer]) * kOutputs,
            plan_.outputs[layer]};
  }

  __device__ void load_weights(const Group& place, int step) const {
    const int outputs = place.outputs, count = min(kSteps, steps_ - step);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      constexpr int kHalf = kGated ? kTiles / 2 : kTiles;
      // Beyond the last output any will do, as it is not written.
      const int output = min(place.first + tile % kHalf * kTile + row_, outputs - 1) +
                         (tile < kHalf ? 0 : outputs);
      const char* row = place.weight + output * Weights::row_bytes(plan_.call);
      int feature = feature_ + step * kFeatures;
#pragma unroll 2
      for (int i = 0; i < count; ++i, feature += kFeatures)
        Weights::template copy<kSlots>(room_, slot(tile, i), row, feature, dim_, feature < dim_);
    }
    end_copies();
  }

  /// Where this lane's weights of a tile are, at a step of those read at once.
  static __device__ int slot(int tile, int step) {
    return (tile * kSteps + step) * kThreads + static_cast<int>(threadIdx.x);
  }

  /// Row `row` of x at a step of this lane. Rows that do not exist are the last once more: nothing
  /// is written of them.
  __device__ Eight load_x(int row, int step) const {
    const int at = feature_ + step * kFeatures, last = rows_ - 1;
    if (stages_x_) {
      const T* x = staged_.template row<const T>(room_, min(row, last));
      return *reinterpret_cast<const Eight*>(x + at);
    }
    const T* x = x_ + int64_t{min(row, last)} * dim_;
    return at < dim_ ? load_eight(x + at) : Eight();
  }

  /// Multiplies the features whose weights were loaded from `step` on.
  __device__ void multiply(int step) {
    const int count = min(kSteps, steps_ - step);
#pragma unroll 2
    for (int i = 0; i < count; ++i) {
      const Eight x = load_x(row_, step + i);
      const Eight below = kUpper ? load_x(row_ + 8, step + i) : Eight();
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const Eight w =
            Weights::template load<kSlots>(room_, slot(tile, i), feature_ + (step + i) * kFeatures);
        // Two sums, as each product waits for the one before it.
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          multiply_tile<T>(sums_[tile][half], x.pairs[2 * half], below.pairs[2 * half],
                           x.pairs[2 * half + 1], below.pairs[2 * half + 1], w.pairs[2 * half],
                           w.pairs[2 * half + 1]);
        }
      }
    }
  }

  // Each thread writes one number of a group.
  static __device__ int row_of_thread() { return threadIdx.x / kOutputs; }
  static __device__ int column_of_thread() { return threadIdx.x % kOutputs; }
  __device__ bool writes(const Group& place) const {
    return row_of_thread() < rows_ && place.first + column_of_thread() < place.outputs;
  }
  __device__ float load_bias(const Group& place, int half) const {
    if (place.bias == nullptr || !writes(place)) return 0;
    return to_float(place.bias[half * place.outputs + place.first + column_of_thread()]);
  }
  /// Where the number of this thread is in the output, and in the residual.
  __device__ int64_t place_in_out(const Group& place) const {
    return int64_t{row_of_thread()} * place.outputs + place.first + column_of_thread();
  }
  __device__ float load_residual(const Group& place) const {
    if (residual_ == nullptr || !writes(place)) return 0;
    return to_float(load_fresh(residual_ + place_in_out(place)));
  }

  /// Adds up the sums of the warps and writes the outputs. `turn` is 0 and 1 in turns, so that one
  /// barrier a group is enough.
  __device__ void add_up(const Group& place, int turn, float bias, float gate_bias,
                         float residual) const {
    const int warp = threadIdx.x / kWarp, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      auto& mine = sums_of_warps_[turn][warp][tile];
      const auto& halves = sums_[tile];
      *reinterpret_cast<float2*>(&mine[row_][column]) = {halves[0][0] + halves[1][0],
                                                         halves[0][1] + halves[1][1]};
      if (kUpper)
        *reinterpret_cast<float2*>(&mine[row_ + 8][column]) = {halves[0][2] + halves[1][2],
                                                               halves[0][3] + halves[1][3]};
    }
    __syncthreads();
    if (!writes(place)) return;
    const auto sum = [&](int tile) {
      float total = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w)
        total += sums_of_warps_[turn][w][tile][row_of_thread()][column_of_thread() % kTile];
      return total;
    };
    const int tile = column_of_thread() / kTile;
    float y = sum(tile) + bias;
    if (kGated) {
      y *= activate(activation_, sum(tile + kTiles / 2) + gate_bias);
    } else {
      y = activate(activation_, y);
    }
    place.out[place_in_out(place)] = from_float<T>(y + residual);
  }

  __device__ void load_gain() const {
    const T* gain = static_cast<const T*>(plan_.call.norm.gain.weight);
    if (gain == nullptr) return end_copies();
    T* to = reinterpret_cast<T*>(room_ + staged_.gain);
#pragma unroll 1
    for (int at = threadIdx.x * kSize; at < dim_; at += kThreads * kSize)
      copy_chunk(to + at, gain + at, true);
    end_copies();
  }

  const Plan& plan_;
  const Staged staged_;
  char* room_;
  Sums* sums_of_warps_;  ///< two, in turns
  const T *x_, *residual_;
  const int rows_, dim_, groups_;
  const ActivationKind activation_;
  const bool is_normalised_, stages_x_;
  int steps_;          ///< of this warp
  int row_, feature_;  ///< of this lane: also the output of a tile; and the first feature
  float bias_ = 0, gate_bias_ = 0;
  float sums_[kTiles][2][4];  ///< of the halves of a step
};

}  // namespace x_transformers::kernels::cuda::few_rows
