// Positions as a bias on attention scores. Every scheme takes explicit positions of queries and
// keys, so that memories, caches and positions from outside cannot disagree.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/core/token_buffer.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/positions/position_options.h"
#include "x_transformers/ops/bucket_table.h"
#include "x_transformers/ops/score_stages.h"

namespace x_transformers {

/// Where the queries and keys of an attention stand, all int64.
struct PositionPairs {
  at::Tensor queries;  ///< [i] or [b, i], of ALiBi also [b, heads, i]
  at::Tensor keys;     ///< [j] or [b, j], of ALiBi also [b, heads, j]
  int64_t span = 0;    ///< all distances lie in (-span, span); for schemes that tabulate them
};

/// A bias for each head, query and key.
class PositionBias : public torch::nn::Module {
 public:
  /// [heads, i, j] or [b, heads, i, j], to be added to the scores.
  virtual at::Tensor forward(const PositionPairs& positions) = 0;
  /// Whether the positions may be a caller's own, which nothing holds to a span.
  virtual bool takes_positions() const { return false; }
  /// The same for queries that stand at the last of at most `span` keys, where it needs no matrix;
  /// else none.
  virtual PositionStage stage(int64_t span) {
    (void)span;
    return {};
  }
};

/// T5's learned bias for buckets of distance (arXiv:1910.10683).
class RelativePositionBias : public PositionBias {
 public:
  explicit RelativePositionBias(const RelativePositionBiasOptions& options);
  at::Tensor forward(const PositionPairs& positions) override;
  PositionStage stage(int64_t span) override;

 protected:
  /// [heads, 2 span - 1] for keys span - 1 tokens before the query to span - 1 after it.
  at::Tensor table(int64_t span) const;

 private:
  at::Tensor buckets(const at::Tensor& relative_position) const;
  BucketRanges ranges(int64_t span) const;

  double scale_;
  bool causal_;
  int64_t num_buckets_, max_distance_;
  torch::nn::Embedding relative_attention_bias_{nullptr};
};

/// A small network from distance to bias (arXiv:2111.09883).
class DynamicPositionBias : public PositionBias {
 public:
  explicit DynamicPositionBias(const DynamicPositionBiasOptions& options);
  at::Tensor forward(const PositionPairs& positions) override;
  PositionStage stage(int64_t span) override;

 private:
  at::Tensor table(int64_t span);
  struct Layer {
    Linear linear{nullptr};
    std::shared_ptr<torch::nn::Module> norm;
    at::Tensor norm_weight, norm_bias;
  };
  bool log_distance_;
  std::vector<Layer> layers_;
  Linear to_heads_{nullptr};
};

/// Minus the distance times a fixed slope for each head (arXiv:2108.12409); heads past `heads` get
/// none. Positions may differ from head to head: [b, heads, i], where heads is 1, the number of
/// slopes, or that of all heads.
class AlibiPositionalBias : public PositionBias {
 public:
  explicit AlibiPositionalBias(const AlibiPositionalBiasOptions& options);
  at::Tensor forward(const PositionPairs& positions) override;
  bool takes_positions() const override { return true; }
  PositionStage stage(int64_t) override { return stages::Alibi{slopes_.flatten()}; }
  // The slopes move with the module, but are no buffer, which would be saved.
  using PositionBias::to;
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

  /// The slopes of the paper, for any number of heads.
  static std::vector<double> default_slopes(int64_t heads);

 private:
  at::Tensor slopes_;  // [total_heads, 1, 1], zero where a head has none
  int64_t heads_;      // those that have a slope
};

/// Bias from forget gates of the tokens (Forgetting Transformer,
/// https://openreview.net/forum?id=q2Lnyegkr8).
class DataDependentAlibi : public torch::nn::Module {
 public:
  explicit DataDependentAlibi(const DataDependentAlibiModuleOptions& options);
  /// [b, n, dim] -> [b, heads, n, n]. With `earlier`, which x is appended to and which causal gates
  /// alone can have: the bias towards all tokens, [b, heads, n, all].
  at::Tensor forward(const at::Tensor& x, TokenBuffer* earlier = nullptr);
  /// The same of causal gates without a matrix; nothing for others.
  std::optional<stages::TokenBias> terms(const at::Tensor& x, TokenBuffer* earlier = nullptr);

 private:
  at::Tensor gates(const at::Tensor& x);

  bool causal_;
  double post_log_scale_;
  Linear linear_{nullptr};
};

/// The same with forget gates for each pair, from small queries and keys.
class PerRowDataDependentAlibi : public torch::nn::Module {
 public:
  explicit PerRowDataDependentAlibi(const PerRowDataDependentAlibiOptions& options);
  at::Tensor forward(const at::Tensor& x, TokenBuffer* earlier = nullptr);

 private:
  int64_t heads_, dim_head_;
  double post_log_scale_;
  Linear linear_{nullptr};
};

/// Contextual positions: each query counts, by gates of its own, how many tokens lie between it and
/// a key (arXiv:2405.18719).
class CoPE : public torch::nn::Module {
 public:
  explicit CoPE(const CoPEOptions& options);
  /// What is added to the masked scores [b, h, i, j] of the queries [b, h, i, d].
  at::Tensor forward(const at::Tensor& query, const at::Tensor& scores);
  /// The table [max_pos, dim] where forward is counted_positions of it; else undefined.
  at::Tensor table() const {
    return soft_onehot_ || talking_heads_.defined() ? at::Tensor() : pos_emb_;
  }

 private:
  int64_t max_pos_;
  bool soft_onehot_;
  double soft_onehot_temp_;
  at::Tensor pos_emb_, talking_heads_, positions_;
};

stages::Cope stage_of(std::shared_ptr<CoPE> cope);

}  // namespace x_transformers
