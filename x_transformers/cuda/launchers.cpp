// The table of kernels/cuda_launchers.h: the launchers of kernels/cuda on LibTorch's streams.
#include "x_transformers/kernels/cuda_launchers.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "x_transformers/cuda/linear_add.h"
#include "x_transformers/cuda/scored_attention.h"
#include "x_transformers/kernels/cuda/activation.cuh"
#include "x_transformers/kernels/cuda/adamw.cuh"
#include "x_transformers/kernels/cuda/argmax.cuh"
#include "x_transformers/kernels/cuda/bucket_table.cuh"
#include "x_transformers/kernels/cuda/column_sums.cuh"
#include "x_transformers/kernels/cuda/cross_entropy.cuh"
#include "x_transformers/kernels/cuda/decode_attention.cuh"
#include "x_transformers/kernels/cuda/few_rows.cuh"
#include "x_transformers/kernels/cuda/flash_attention.cuh"
#include "x_transformers/kernels/cuda/group_attention.cuh"
#include "x_transformers/kernels/cuda/hyper_connection.cuh"
#include "x_transformers/kernels/cuda/keep_likely.cuh"
#include "x_transformers/kernels/cuda/layer_mix.cuh"
#include "x_transformers/kernels/cuda/norm.cuh"
#include "x_transformers/kernels/cuda/offset_scale.cuh"
#include "x_transformers/kernels/cuda/polar.cuh"
#include "x_transformers/kernels/cuda/repeat_heads.cuh"
#include "x_transformers/kernels/cuda/rotary.cuh"
#include "x_transformers/kernels/cuda/scale.cuh"
#include "x_transformers/kernels/cuda/score_matrix.cuh"
#include "x_transformers/kernels/cuda/sink_terms.cuh"

namespace x_transformers::kernels {
namespace {

/// A launcher on the current stream of a device.
template <class Params, cudaError_t (*launch)(const Params&, cudaStream_t)>
void on_current_stream(const Params& params, int8_t device) {
  const c10::cuda::CUDAGuard guard(device);
  C10_CUDA_CHECK(launch(params, c10::cuda::getCurrentCUDAStream(device)));
}

constexpr CudaLaunchers make_table() {
  CudaLaunchers table;
  table.layer_norm_forward = on_current_stream<NormForward, cuda::layer_norm_forward>;
  table.layer_norm_backward = on_current_stream<NormBackward, cuda::layer_norm_backward>;
  table.l2_norm_forward = on_current_stream<NormForward, cuda::l2_norm_forward>;
  table.l2_norm_backward = on_current_stream<NormBackward, cuda::l2_norm_backward>;
  table.norm_chunks = cuda::norm_chunks;
  table.activation_forward = on_current_stream<ActivationForward, cuda::activation_forward>;
  table.activation_backward = on_current_stream<ActivationBackward, cuda::activation_backward>;
  table.activation_chunks = cuda::activation_chunks;
  table.cross_entropy = on_current_stream<CrossEntropyPass, cuda::cross_entropy>;
  table.linear_few_rows = on_current_stream<FewRowsOfLayers, cuda::linear_few_rows>;
  table.argmax_of_rows = on_current_stream<ArgmaxOfRows, cuda::argmax_of_rows>;
  table.keep_likely = on_current_stream<KeepLikely, cuda::keep_likely>;
  table.keep_likely_most = cuda::keep_likely_most;
  table.column_sums = on_current_stream<ColumnSums, cuda::column_sums>;
  table.column_sum_chunks = cuda::column_sum_chunks;
  table.scale_in_place = on_current_stream<ScaleInPlace, cuda::scale_in_place>;
  table.decode_attention = on_current_stream<DecodeAttention, cuda::decode_attention>;
  table.adamw = on_current_stream<AdamWStep, cuda::adamw>;
  table.repeat_heads = on_current_stream<RepeatHeads, cuda::repeat_heads>;
  table.polar = on_current_stream<PolarPass, cuda::polar>;
  table.sink_terms = on_current_stream<SinkTerms, cuda::sink_terms>;
  table.rotary = on_current_stream<RotaryParams, cuda::rotary>;
  table.bucket_table = on_current_stream<BucketTable, cuda::bucket_table>;
  table.group_weights = on_current_stream<GroupWeights, cuda::group_weights>;
  table.group_weights_backward =
      on_current_stream<GroupWeightsBackward, cuda::group_weights_backward>;
  table.group_weights_chunks = cuda::group_weights_chunks;
  table.sums_of_others = on_current_stream<SumsOfOthers, cuda::sums_of_others>;
  table.gate_rows = on_current_stream<GateRows, cuda::gate_rows>;
  table.offset_scale = on_current_stream<OffsetScale, cuda::offset_scale>;
  table.offset_scale_gradients =
      on_current_stream<OffsetScaleGradients, cuda::offset_scale_gradients>;
  table.layer_mix_forward = on_current_stream<LayerMix, cuda::layer_mix_forward>;
  table.layer_mix_backward = on_current_stream<LayerMixBackward, cuda::layer_mix_backward>;
  table.hyper_width_forward = on_current_stream<HyperWidth, cuda::hyper_width_forward>;
  table.hyper_width_backward = on_current_stream<HyperWidthBackward, cuda::hyper_width_backward>;
  table.hyper_depth_forward = on_current_stream<HyperDepth, cuda::hyper_depth_forward>;
  table.hyper_depth_backward = on_current_stream<HyperDepthBackward, cuda::hyper_depth_backward>;
  table.hyper_width_chunks = cuda::hyper_width_chunks;
  table.hyper_width_columns = cuda::hyper_width_columns;
  table.can_add_linear = cuda::can_add_linear;
  table.linear_add = cuda::linear_add;
  table.scored_attention_workspace = cuda::scored_attention_workspace;
  table.scored_attention = cuda::scored_attention;
  table.flash_attention_forward = on_current_stream<FlashAttention, cuda::flash_attention_forward>;
  table.flash_attention_backward =
      on_current_stream<FlashAttention, cuda::flash_attention_backward>;
  table.flash_attention_partial = cuda::flash_attention_partial;
  table.score_softmax_forward = on_current_stream<ScoreSoftmax, cuda::score_softmax_forward>;
  table.score_softmax_backward = on_current_stream<ScoreSoftmax, cuda::score_softmax_backward>;
  table.mix_heads = on_current_stream<MixHeads, cuda::mix_heads>;
  table.mix_heads_weights = on_current_stream<MixHeadsWeights, cuda::mix_heads_weights>;
  table.counted_positions_forward =
      on_current_stream<CountedPositions, cuda::counted_positions_forward>;
  table.counted_positions_backward =
      on_current_stream<CountedPositions, cuda::counted_positions_backward>;
  table.selective_gate_forward = on_current_stream<SelectiveGate, cuda::selective_gate_forward>;
  table.selective_gate_backward = on_current_stream<SelectiveGate, cuda::selective_gate_backward>;
  return table;
}

constexpr CudaLaunchers kTable = make_table();

}  // namespace
}  // namespace x_transformers::kernels

extern "C" __attribute__((visibility("default"))) const x_transformers::kernels::CudaLaunchers*
x_transformers_cuda_launchers() {
  return &x_transformers::kernels::kTable;
}
