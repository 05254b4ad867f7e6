// Options of the part of attention that works on scores.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/notice.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

/// Which engines may run attention, in PyTorch's words. Without any of the fused ones the reference
/// runs.
struct SdpOptions {
  /// fused flash kernels
  bool enable_flash = true;
  /// accepted for Python's sake: the reference is there for what no other engine runs
  bool enable_math = true;
  /// fused memory-efficient kernels
  bool enable_mem_efficient = true;
  /// fused kernels of cuDNN
  bool enable_cudnn = true;

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("enable_flash", enable_flash, "fused flash kernels");
    v.free("enable_math", enable_math,
           "accepted for Python's sake: the reference is there for what no other engine runs");
    v.free("enable_mem_efficient", enable_mem_efficient, "fused memory-efficient kernels");
    v.free("enable_cudnn", enable_cudnn, "fused kernels of cuDNN");
  }
  bool any_fused() const { return enable_flash || enable_mem_efficient || enable_cudnn; }
};

/// Options of the scores, shared by Attend and Attention.
struct ScoreOptions {
  /// accepted for Python's sake: the fastest engine that can is used either way (arXiv:2205.14135)
  bool flash = false;
  /// dropout of the attention weights
  double dropout = 0.0;
  /// heads mixed before the softmax (arXiv:2003.02436)
  bool pre_talking_heads = false;
  /// heads mixed after the softmax (arXiv:2003.02436)
  bool post_talking_heads = false;
  /// heads mixed before the softmax scale the weights after it
  bool pre_scale_post_talking_heads = false;
  /// only the k best keys of each query (arXiv:1912.11637)
  std::optional<int64_t> sparse_topk = std::nullopt;
  /// gradients also to the keys left out (arXiv:2505.22074)
  bool sparse_topk_straight_through = false;
  /// minus the squared distance of query and key as score (arXiv:2006.04710)
  bool l2_distance = false;
  /// sigmoid in place of softmax (arXiv:2409.04431)
  bool sigmoid = false;
  /// Gumbel noise on the scores (arXiv:1611.01144)
  bool gumbel_softmax = false;
  /// temperature of the Gumbel softmax
  double gumbel_softmax_temp = 1.0;
  /// one-hot weights with straight-through gradients
  bool gumbel_softmax_hard = true;
  /// weights that keep the sign of their score (arXiv:2411.07176)
  bool cog_signed = false;
  /// scores held within a bound by tanh (arXiv:2408.00118)
  bool softclamp_logits = false;
  /// the bound of softclamp_logits
  double logit_softclamp_value = 50.0;
  /// one more key and value, all zero: attend to nothing
  /// (evanmiller.org/attention-is-off-by-one.html)
  bool add_zero_kv = false;
  /// a learned score for each head that takes weight and gives nothing (arXiv:2508.10925)
  bool head_learned_sink = false;
  /// tokens can stop later ones from attending to what they have seen (arXiv:2410.02703)
  bool selective = false;
  /// one-hot weights with straight-through gradients
  bool hard = false;
  std::optional<FunctionSpec<at::Tensor(const at::Tensor&)>> custom_attn_fn = std::nullopt;
  /// sequences packed into one row attend to themselves only: each call says which
  /// (flash_pack_seq_kwargs) (arXiv:2307.08691)
  bool flash_pack_seq = false;
  /// accepted for Python's sake: causal masks are the same with and without
  bool onnxable = false;
  SdpOptions sdp_kwargs = {};

  template <class Visitor>
  void score_fields(Visitor& v) {
    v.free("flash", flash,
           "accepted for Python's sake: the fastest engine that can is used either way",
           "arXiv:2205.14135");
    v.free("dropout", dropout, "dropout of the attention weights");
    v("pre_talking_heads", pre_talking_heads, "heads mixed before the softmax", "arXiv:2003.02436");
    v("post_talking_heads", post_talking_heads, "heads mixed after the softmax",
      "arXiv:2003.02436");
    v("pre_scale_post_talking_heads", pre_scale_post_talking_heads,
      "heads mixed before the softmax scale the weights after it");
    v("sparse_topk", sparse_topk, "only the k best keys of each query", "arXiv:1912.11637");
    v("sparse_topk_straight_through", sparse_topk_straight_through,
      "gradients also to the keys left out", "arXiv:2505.22074");
    v("l2_distance", l2_distance, "minus the squared distance of query and key as score",
      "arXiv:2006.04710");
    v("sigmoid", sigmoid, "sigmoid in place of softmax", "arXiv:2409.04431");
    v("gumbel_softmax", gumbel_softmax, "Gumbel noise on the scores", "arXiv:1611.01144");
    v("gumbel_softmax_temp", gumbel_softmax_temp, "temperature of the Gumbel softmax");
    v("gumbel_softmax_hard", gumbel_softmax_hard,
      "one-hot weights with straight-through gradients");
    v("cog_signed", cog_signed, "weights that keep the sign of their score", "arXiv:2411.07176");
    v("softclamp_logits", softclamp_logits, "scores held within a bound by tanh",
      "arXiv:2408.00118");
    v("logit_softclamp_value", logit_softclamp_value, "the bound of softclamp_logits");
    v("add_zero_kv", add_zero_kv, "one more key and value, all zero: attend to nothing",
      "evanmiller.org/attention-is-off-by-one.html");
    v("head_learned_sink", head_learned_sink,
      "a learned score for each head that takes weight and gives nothing", "arXiv:2508.10925");
    v("selective", selective, "tokens can stop later ones from attending to what they have seen",
      "arXiv:2410.02703");
    v("hard", hard, "one-hot weights with straight-through gradients");
    v("onnxable", onnxable,
      "accepted for Python's sake: causal masks are the same with and without");
    v("custom_attn_fn", custom_attn_fn,
      "scores to weights, in place of the softmax: a module, or from C++ any callable");
    v("flash_pack_seq", flash_pack_seq,
      "sequences packed into one row attend to themselves only: each call says which "
      "(flash_pack_seq_kwargs)",
      "arXiv:2307.08691");
  }
};

struct AttendOptions : ScoreOptions {
  /// attention heads
  int64_t heads = 0;
  /// no key after its query
  bool causal = false;
  /// queries and keys are normalised
  bool qk_norm = false;
  /// factor of the scores; default: dim_head ** -0.5
  std::optional<double> scale = std::nullopt;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.size("heads", heads, "attention heads");
    v("causal", causal, "no key after its query");
    v("qk_norm", qk_norm, "queries and keys are normalised");
    v("scale", scale, "factor of the scores; default: dim_head ** -0.5");
    score_fields(v);
    v("sdp_kwargs", sdp_kwargs, "which engines may run");
  }
};

/// Throws InputError for impossible combinations.
void validate(const ScoreOptions& options, bool causal);
/// A notice for each option that changes nothing beside the others.
std::vector<Notice> unused_options(const ScoreOptions& options);
/// Warns where packed sequences are on but not given, or given but not on: `prefix` stands before
/// the options' names, `arguments` is what gives them. Throws InputError where flash needs them.
void warn_of_packing(const ScoreOptions& options, bool is_given, const std::string& prefix = "",
                     const std::string& arguments = "flash_pack_seq_kwargs");

}  // namespace x_transformers
