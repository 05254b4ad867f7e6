// Attention on the CPU that never holds the whole score matrix: blocks of queries against blocks of
// keys, with the softmax carried along (FlashAttention, arXiv:2205.14135). For the backward two
// numbers of each row are kept, with `hard` also the output that the softmax would have.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace x_transformers {

/// What is done to the scores, in the order of the members, and how they become weights. Undefined
/// tensors are off; q, k, v, bias and sinks get gradients.
struct FlashAttentionCpuOptions {
  double scale = 1.0;
  at::Tensor bias = {};          ///< float32, broadcastable to [b, h, i, j], added to the scores
  at::Tensor alibi_slopes = {};  ///< float32 [h]: score -= slope * |key position - query position|
                                 ///< (arXiv:2108.12409)
  double softclamp = 0.0;        ///< above 0: value * tanh(scores / value)
  bool cog_signed =
      false;              ///< weights of |scores|, given the sign of the scores (arXiv:2411.07176)
  at::Tensor mask = {};   ///< bool, broadcastable to [b, h, i, j]: true means attend
  bool causal = false;    ///< queries stand at the last key positions
  at::Tensor sinks = {};  ///< float32 [h]: score of a key without value; with cog_signed its
                          ///< magnitude
  bool gumbel = false;    ///< Gumbel noise is added to the scores (arXiv:1611.01144)
  double temperature = 1.0;  ///< of the softmax with Gumbel noise
  bool sigmoid = false;      ///< sigmoids in place of a softmax
  bool hard = false;         ///< all weight on the maximum score, with the gradient of the softmax
  double dropout = 0.0;      ///< of the weights
  int64_t seed = 0;  ///< of noise and dropout: the same for the same shapes, on every machine
};

/// weights(scores) v for q [b, h, i, d], k [b, kv_heads, j, d], v [b, kv_heads, j, dv], float32 on
/// the CPU, any strides with a dense last dimension (others are copied). On processors without
/// instructions for bfloat16 (emulates_bf16) tensors of that type are taken, too, and computed on
/// in float32: LibTorch's own attention takes several times as long there. Query head h uses
/// key/value head h % kv_heads. A query that may attend to nothing gets output 0 and gradient 0.
/// The result [b, h, i, dv] lies in memory as [b, i, h, dv], so that merging the heads copies
/// nothing; gradients come in the memory order of their inputs. Throws InputError with the reasons
/// where `flash_attention_cpu_unsupported` gives any.
at::Tensor flash_attention_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const FlashAttentionCpuOptions& options = {});

/// Why flash_attention_cpu cannot run; empty: it can.
std::string flash_attention_cpu_unsupported(const at::Tensor& q, const at::Tensor& k,
                                            const at::Tensor& v,
                                            const FlashAttentionCpuOptions& options = {});

/// The same as a score program of the reference (attend_reference), for every dtype and order of
/// gradient.
at::Tensor flash_attention_cpu_reference(const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v,
                                         const FlashAttentionCpuOptions& options = {});

}  // namespace x_transformers
