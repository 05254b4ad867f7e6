#include "x_transformers/kernels/cpu/attention.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "x_transformers/kernels/cpu/scratch.h"

namespace x_transformers::kernels {
namespace {

/// Sizes are in floats; `memory` is scratch of one thread, aligned to 64 bytes.
struct AttentionLoops {
  int64_t (*forward_scratch_size)(const AttentionShape&);
  void (*forward_group)(const AttentionForward&, int64_t batch, int64_t kv_head, int64_t part,
                        int64_t parts, float* memory);
  int64_t (*decode_scratch_size)(const AttentionShape&);
  int64_t (*decode_state_size)(const AttentionShape&);
  void (*decode_part)(const AttentionForward&, int64_t batch, int64_t kv_head, int64_t begin,
                      int64_t end, float* memory, float* states);
  void (*decode_finish)(const AttentionForward&, int64_t batch, int64_t kv_head, int64_t parts,
                        float* states);
  int64_t (*backward_scratch_size)(const AttentionShape&);
  void (*backward_group)(const AttentionBackward&, int64_t batch, int64_t kv_head, float* memory);
  void (*random_values)(const AttentionShape&, const AttentionScores&, int64_t batch, int64_t head,
                        int64_t query, float* factors, float* noise);
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/attention_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {
namespace {

/// Up to this many rows (queries times heads that share a key/value head) read keys and values
/// where they lie.
constexpr int64_t kMaxDecodeRows = 16;
constexpr int64_t kMinKeysPerPart = 256;

void fill_without_keys(const AttentionForward& params) {
  const auto& shape = params.shape;
  for (int64_t i = 0; i < shape.batch * shape.heads * shape.queries; ++i) {
    const int64_t head = i / shape.queries;
    float* out = params.out.row(head / shape.heads, head % shape.heads, i % shape.queries);
    std::fill_n(out, shape.value_dim, 0.0f);
    if (params.softmax != nullptr) {
      params.softmax[i] = {std::numeric_limits<float>::infinity(), 0.0f};
    }
    if (params.soft_out.data != nullptr) {
      std::fill_n(params.soft_out.row(head / shape.heads, head % shape.heads, i % shape.queries),
                  shape.value_dim, 0.0f);
    }
    if (params.chosen != nullptr) params.chosen[i] = -1;
  }
}

void decode(const AttentionForward& params, const AttentionLoops& loops) {
  const auto& shape = params.shape;
  const int64_t groups = shape.batch * shape.kv_heads;
  const int64_t threads = at::get_num_threads();
  const int64_t parts =
      std::clamp<int64_t>(std::min(threads / groups, shape.keys / kMinKeysPerPart), 1, shape.keys);
  const int64_t rows = shape.heads / shape.kv_heads * shape.queries;
  const int64_t part_size = rows * loops.decode_state_size(shape);
  std::vector<float> states(groups * parts * part_size);
  const int64_t grain = std::max<int64_t>(1, 32768 / (shape.keys / parts * (shape.dim + 1)));
  at::parallel_for(0, groups * parts, grain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t group = i / parts, part = i % parts;
      loops.decode_part(params, group / shape.kv_heads, group % shape.kv_heads,
                        part * shape.keys / parts, (part + 1) * shape.keys / parts,
                        thread_scratch<AttentionShape>(loops.decode_scratch_size(shape)),
                        states.data() + i * part_size);
    }
  });
  for (int64_t group = 0; group < groups; ++group) {
    loops.decode_finish(params, group / shape.kv_heads, group % shape.kv_heads, parts,
                        states.data() + group * parts * part_size);
  }
}

}  // namespace

void attention_forward(const AttentionForward& params) {
  const auto& shape = params.shape;
  const auto& loops = XT_SELECT(kAttentionLoops);
  if (shape.batch * shape.heads * shape.queries == 0) return;
  if (shape.keys == 0) return fill_without_keys(params);
  const int64_t rows = shape.heads / shape.kv_heads * shape.queries;
  if (rows <= kMaxDecodeRows && !params.scores.hard) return decode(params, loops);
  const int64_t groups = shape.batch * shape.kv_heads;
  const int64_t parts =
      std::clamp<int64_t>(2 * at::get_num_threads() / groups, 1, std::max<int64_t>(1, rows / 16));
  at::parallel_for(0, groups * parts, 1, [&](int64_t first, int64_t last) {
    float* memory = thread_scratch<AttentionShape>(loops.forward_scratch_size(shape));
    for (int64_t i = first; i < last; ++i) {
      const int64_t group = i / parts;
      loops.forward_group(params, group / shape.kv_heads, group % shape.kv_heads, i % parts, parts,
                          memory);
    }
  });
}

void attention_backward(const AttentionBackward& params) {
  const auto& shape = params.shape;
  const auto& loops = XT_SELECT(kAttentionLoops);
  const bool has_slices = params.bias_grad.data != nullptr;
  const int64_t slices = has_slices ? params.bias_slices : shape.batch;
  at::parallel_for(0, slices * shape.kv_heads, 1, [&](int64_t first, int64_t last) {
    float* memory = thread_scratch<AttentionShape>(loops.backward_scratch_size(shape));
    for (int64_t i = first; i < last; ++i) {
      const int64_t slice = i / shape.kv_heads, end = (slice + 1) * shape.batch / slices;
      auto of_slice = params;
      if (has_slices) of_slice.bias_grad.data = params.bias_grad.row(slice, 0, 0);
      for (int64_t batch = slice * shape.batch / slices; batch < end; ++batch) {
        loops.backward_group(of_slice, batch, i % shape.kv_heads, memory);
      }
    }
  });
}

void attention_random(const AttentionShape& shape, const AttentionScores& scores, float* factors,
                      float* noise) {
  const auto& loops = XT_SELECT(kAttentionLoops);
  for (int64_t i = 0; i < shape.batch * shape.heads * shape.queries; ++i) {
    const int64_t head = i / shape.queries;
    loops.random_values(shape, scores, head / shape.heads, head % shape.heads, i % shape.queries,
                        factors ? factors + i * shape.keys : nullptr,
                        noise ? noise + i * shape.keys : nullptr);
  }
}

}  // namespace x_transformers::kernels
