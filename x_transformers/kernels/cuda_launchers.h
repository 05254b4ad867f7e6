// The CUDA kernels as the rest of the library sees them: a table of functions that
// libx_transformers_cuda.so exports. No CUDA header is needed to call them.
#pragma once

#include <cstdint>
#include <string>

#include "x_transformers/kernels/activation.h"
#include "x_transformers/kernels/adamw.h"
#include "x_transformers/kernels/argmax.h"
#include "x_transformers/kernels/bucket_table.h"
#include "x_transformers/kernels/column_sums.h"
#include "x_transformers/kernels/cross_entropy.h"
#include "x_transformers/kernels/decode_attention.h"
#include "x_transformers/kernels/few_rows.h"
#include "x_transformers/kernels/flash_attention.h"
#include "x_transformers/kernels/group_attention.h"
#include "x_transformers/kernels/hyper_connection.h"
#include "x_transformers/kernels/keep_likely.h"
#include "x_transformers/kernels/layer_mix.h"
#include "x_transformers/kernels/linear_add.h"
#include "x_transformers/kernels/norm.h"
#include "x_transformers/kernels/offset_scale.h"
#include "x_transformers/kernels/polar.h"
#include "x_transformers/kernels/repeat_heads.h"
#include "x_transformers/kernels/rotary.h"
#include "x_transformers/kernels/scale.h"
#include "x_transformers/kernels/score_matrix.h"
#include "x_transformers/kernels/scored_attention.h"
#include "x_transformers/kernels/sink_terms.h"

namespace x_transformers::kernels {

/// Functions launch on the current stream of `device` and do not wait. They throw c10::Error where
/// a launch fails.
struct CudaLaunchers {
  /// What the table and parameters of these sizes look like: a library of another version has
  /// another layout.
  uint64_t layout =
      sizeof(CudaLaunchers) +
      layout_of<NormForward, NormBackward, ActivationForward, ActivationBackward, CrossEntropyPass,
                RotaryParams, RepeatHeads, AdamWWeight, AdamWStep, ScoredAttention, FewRowsOfLayers,
                DecodeAttention, LayerMix, LayerMixBackward, HyperWidth, HyperWidthBackward,
                HyperDepth, HyperDepthBackward, FlashAttention, ScoreSoftmax, MixHeads,
                MixHeadsWeights, CountedPositions, SelectiveGate, ArgmaxOfRows, KeepLikely,
                ColumnSums, ScaleInPlace, LinearAdd, SinkTerms, PolarPass, BucketTable,
                GroupWeights, GroupWeightsBackward, SumsOfOthers, GateRows, OffsetScale,
                OffsetScaleGradients>();

  /// y = (x - mean) / sqrt(variance + epsilon) * gain, for dim <= kMaxCudaNormFeatures.
  void (*layer_norm_forward)(const NormForward& params, int8_t device) = nullptr;
  void (*layer_norm_backward)(const NormBackward& params, int8_t device) = nullptr;
  /// y = x / max(|x|, epsilon) * scale * gain, for dim <= kMaxCudaNormFeatures.
  void (*l2_norm_forward)(const NormForward& params, int8_t device) = nullptr;
  void (*l2_norm_backward)(const NormBackward& params, int8_t device) = nullptr;
  /// The `chunks` that the backward passes of norms want; 0 for few rows.
  int64_t (*norm_chunks)(int64_t rows, int64_t dim) = nullptr;

  void (*activation_forward)(const ActivationForward& params, int8_t device) = nullptr;
  void (*activation_backward)(const ActivationBackward& params, int8_t device) = nullptr;
  /// The `chunks` that activation_backward wants.
  int64_t (*activation_chunks)(int64_t rows, int64_t dim) = nullptr;

  void (*cross_entropy)(const CrossEntropyPass& params, int8_t device) = nullptr;
  void (*scale_in_place)(const ScaleInPlace& params, int8_t device) = nullptr;
  /// Whether linear_add can run for these sizes and addresses.
  bool (*can_add_linear)(const LinearAdd& params, int8_t device) = nullptr;
  void (*linear_add)(const LinearAdd& params, int8_t device) = nullptr;
  void (*linear_few_rows)(const FewRowsOfLayers& params, int8_t device) = nullptr;
  void (*argmax_of_rows)(const ArgmaxOfRows& params, int8_t device) = nullptr;
  void (*keep_likely)(const KeepLikely& params, int8_t device) = nullptr;
  /// The most logits of a row that keep_likely takes.
  int64_t (*keep_likely_most)() = nullptr;
  void (*column_sums)(const ColumnSums& params, int8_t device) = nullptr;
  /// The `chunks` that column_sums wants.
  int64_t (*column_sum_chunks)(int64_t rows, int64_t columns) = nullptr;
  void (*decode_attention)(const DecodeAttention& params, int8_t device) = nullptr;
  void (*adamw)(const AdamWStep& params, int8_t device) = nullptr;
  void (*repeat_heads)(const RepeatHeads& params, int8_t device) = nullptr;
  void (*polar)(const PolarPass& params, int8_t device) = nullptr;
  void (*sink_terms)(const SinkTerms& params, int8_t device) = nullptr;
  void (*rotary)(const RotaryParams& params, int8_t device) = nullptr;
  void (*bucket_table)(const BucketTable& params, int8_t device) = nullptr;

  void (*group_weights)(const GroupWeights& params, int8_t device) = nullptr;
  void (*group_weights_backward)(const GroupWeightsBackward& params, int8_t device) = nullptr;
  /// How many rows of bias_grad there are for each matrix.
  int64_t (*group_weights_chunks)(int64_t size) = nullptr;
  void (*sums_of_others)(const SumsOfOthers& params, int8_t device) = nullptr;
  void (*gate_rows)(const GateRows& params, int8_t device) = nullptr;
  void (*offset_scale)(const OffsetScale& params, int8_t device) = nullptr;
  void (*offset_scale_gradients)(const OffsetScaleGradients& params, int8_t device) = nullptr;

  void (*layer_mix_forward)(const LayerMix& params, int8_t device) = nullptr;
  void (*layer_mix_backward)(const LayerMixBackward& params, int8_t device) = nullptr;

  /// Of at most kMaxHyperFeatures and kMaxHyperStreams, with 1 or 3 views.
  void (*hyper_width_forward)(const HyperWidth& params, int8_t device) = nullptr;
  void (*hyper_width_backward)(const HyperWidthBackward& params, int8_t device) = nullptr;
  void (*hyper_depth_forward)(const HyperDepth& params, int8_t device) = nullptr;
  void (*hyper_depth_backward)(const HyperDepthBackward& params, int8_t device) = nullptr;
  /// The `partial` that hyper_width_backward wants, [chunks, columns].
  int64_t (*hyper_width_chunks)(int64_t tokens) = nullptr;
  int64_t (*hyper_width_columns)(int64_t dim, int64_t streams, int64_t views) = nullptr;

  /// Bytes of workspace that the call needs, wherever its memory lies. -1 where it cannot run:
  /// `reason` then says why. The first call of its kind takes up to a second.
  int64_t (*scored_attention_workspace)(const ScoredAttention& params, int8_t device,
                                        std::string& reason) = nullptr;
  void (*scored_attention)(const ScoredAttention& params, int8_t device) = nullptr;

  void (*flash_attention_forward)(const FlashAttention& params, int8_t device) = nullptr;
  void (*flash_attention_backward)(const FlashAttention& params, int8_t device) = nullptr;
  /// How many floats `partial` must have room for.
  int64_t (*flash_attention_partial)(const FlashAttention& params) = nullptr;

  void (*score_softmax_forward)(const ScoreSoftmax& params, int8_t device) = nullptr;
  void (*score_softmax_backward)(const ScoreSoftmax& params, int8_t device) = nullptr;
  void (*mix_heads)(const MixHeads& params, int8_t device) = nullptr;
  void (*mix_heads_weights)(const MixHeadsWeights& params, int8_t device) = nullptr;
  void (*counted_positions_forward)(const CountedPositions& params, int8_t device) = nullptr;
  void (*counted_positions_backward)(const CountedPositions& params, int8_t device) = nullptr;
  void (*selective_gate_forward)(const SelectiveGate& params, int8_t device) = nullptr;
  void (*selective_gate_backward)(const SelectiveGate& params, int8_t device) = nullptr;

 private:
  template <class... Params>
  static constexpr uint64_t layout_of() {
    uint64_t sizes = 0;
    ((sizes = sizes * 1021 + sizeof(Params)), ...);
    return sizes;
  }
};

inline constexpr int64_t kMaxCudaNormFeatures = 16384;

/// What libx_transformers_cuda.so exports, under the name kCudaLaunchers.
using GetCudaLaunchers = const CudaLaunchers* (*)();
inline constexpr const char* kCudaLaunchers = "x_transformers_cuda_launchers";

}  // namespace x_transformers::kernels
