// The stages of a score program: plain structs, each with its name (that of its option), its place
// and what it does to the whole matrix of scores, which is the reference of every engine.
// docs/design.md says how to add one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <variant>

#include "x_transformers/core/filled_keys.h"

namespace x_transformers {

/// The places of stages, and of what stages postpone, in the order of Python's Attend.
enum class ScorePlace {
  similarity,
  prev_attn,
  keep_similarities,
  pre_scale_post_talking_heads,
  pre_talking_heads,
  position,
  bias,
  softclamp,
  cog_signed,
  mask,
  causal,
  window,
  hide,
  cope,
  selective,
  head_sink,
  keep_scores,
  normaliser,
  give_signs,
  keep_weights,
  drop_sink,
  dropout,
  post_talking_heads,
  scale_weights,
  end,
};

/// The scores on their way through the stages of a program; after the normaliser, the weights.
class ScoreMatrix {
 public:
  using Step = std::function<void(ScoreMatrix&)>;

  at::Tensor q, k;     ///< [b, h, i, d], [b, h, j, d]
  at::Tensor scores;   ///< [b, h, i, j]; one key more in front between head_sink and drop_sink
  at::Tensor visible;  ///< bool, broadcastable to [b, h, i, j]: what all masks allow; or undefined
  at::Tensor signs;    ///< of the scores, for the weights to be given; undefined: none
  bool may_see_nothing = false;  ///< whether there may be queries that nothing is visible to

  /// Lets queries attend only where `mask` is true too.
  void allow(const at::Tensor& mask);
  /// Keeps what was added to masked scores within what their type can hold.
  void bound_masked();
  /// Postpones a step until all stages before `place` are done.
  void later(ScorePlace place, Step step);
  /// Does what was postponed to places before `place`.
  void run_until(ScorePlace place);

 private:
  std::multimap<ScorePlace, Step> put_off_;
};

/// Which keys one query on a static cache sees, by the few things that say it: of those filled the
/// visible ones, at most `past` positions before the last filled, and all `front` keys that stand
/// before those of the cache.
struct CachedKeys {
  FilledKeys filled;
  at::Tensor visible = {};           ///< bool, [b or 1, capacity]; undefined: all
  std::optional<int64_t> past = {};  ///< no value: any number
  int64_t front = 0;

  bool defined() const { return filled.defined(); }
};

namespace stages {

/// q·k times `scale`.
struct DotProduct {
  static constexpr const char* kName = "dot product";
  static constexpr ScorePlace kPlace = ScorePlace::similarity;
  double scale = 1.0;
  void apply(ScoreMatrix& matrix) const;
};

/// Minus the squared distance of q and k, times `scale` (arXiv:2006.04710).
struct L2Distance {
  static constexpr const char* kName = "l2_distance";
  static constexpr ScorePlace kPlace = ScorePlace::similarity;
  double scale = 1.0;
  void apply(ScoreMatrix& matrix) const;
};

/// Adds the scores of an earlier layer, [b, h, i, j] (arXiv:2012.11747).
struct PrevAttn {
  static constexpr const char* kName = "residual attention";
  static constexpr ScorePlace kPlace = ScorePlace::prev_attn;
  at::Tensor prev_attn;
  void each_tensor(const auto& visit) { visit(prev_attn); }
  void apply(ScoreMatrix& matrix) const;
};

/// Heads mixed by `heads` [h, h] here scale the weights at the end.
struct PreScalePostTalkingHeads {
  static constexpr const char* kName = "pre_scale_post_talking_heads";
  static constexpr ScorePlace kPlace = ScorePlace::pre_scale_post_talking_heads;
  at::Tensor heads;
  void each_tensor(const auto& visit) { visit(heads); }
  void apply(ScoreMatrix& matrix) const;
};

/// Adds the heads mixed by `heads` [h, h] (arXiv:2003.02436).
struct PreTalkingHeads {
  static constexpr const char* kName = "pre_talking_heads";
  static constexpr ScorePlace kPlace = ScorePlace::pre_talking_heads;
  at::Tensor heads;
  void each_tensor(const auto& visit) { visit(heads); }
  void apply(ScoreMatrix& matrix) const;
};

/// Subtracts the distance of query and key times the slope of the head (ALiBi, arXiv:2108.12409);
/// queries stand at the last key positions, and nothing is done to `front` keys in front.
struct Alibi {
  static constexpr const char* kName = "alibi_pos_bias";
  static constexpr ScorePlace kPlace = ScorePlace::position;
  at::Tensor slopes;  ///< [h]; they are fixed, and get no gradient
  int64_t front = 0;
  void each_tensor(const auto& visit) { visit(slopes); }
  /// float32 [h].
  at::Tensor fixed() const;
  /// What it adds, float32 [h, i, j].
  at::Tensor bias(int64_t i, int64_t j) const;
  void apply(ScoreMatrix& matrix) const;
};

/// Adds to each score a number that depends on the head and on the distance of key and query (T5's
/// bias, arXiv:1910.10683). Queries stand at the last key positions. The first `front` keys get
/// nothing added.
struct DistanceBias {
  static constexpr const char* kName = "a bias of distances";
  static constexpr ScorePlace kPlace = ScorePlace::position;
  /// [h, 2 * span - 1]: column c is for keys c - (span - 1) positions after the query, so span must
  /// be at least i and at least j - front.
  at::Tensor table;
  int64_t front = 0;
  void each_tensor(const auto& visit) {
    visit(table);
    spread = std::make_shared<Spread>();
  }
  /// What it adds, [h, i, j]; made once for all layers that share the stage.
  at::Tensor bias(int64_t i, int64_t j) const;
  void apply(ScoreMatrix& matrix) const;

  struct Spread {
    int64_t front = 0;
    at::Tensor bias;
  };
  std::shared_ptr<Spread> spread = std::make_shared<Spread>();
};

/// Adds a number of the query and one of the key, as forget gates do
/// (https://openreview.net/forum?id=q2Lnyegkr8). Nothing is done to keys before the last that have
/// one.
struct TokenBias {
  static constexpr const char* kName = "a bias of tokens";
  static constexpr ScorePlace kPlace = ScorePlace::position;
  at::Tensor queries, keys;  ///< [b, h, i], [b, h, at most j]
  void each_tensor(const auto& visit) {
    visit(queries);
    visit(keys);
  }
  /// What it adds, [b, h, i, j].
  at::Tensor bias(int64_t i, int64_t j) const;
  void apply(ScoreMatrix& matrix) const;
};

/// Adds `bias`, broadcastable to [b, h, i, j].
struct Bias {
  static constexpr const char* kName = "a bias";
  static constexpr ScorePlace kPlace = ScorePlace::bias;
  at::Tensor bias;
  void each_tensor(const auto& visit) { visit(bias); }
  void apply(ScoreMatrix& matrix) const;
};

/// bound * tanh(scores / bound) (arXiv:2408.00118).
struct Softclamp {
  static constexpr const char* kName = "softclamp_logits";
  static constexpr ScorePlace kPlace = ScorePlace::softclamp;
  double bound = 50.0;
  void apply(ScoreMatrix& matrix) const;
};

/// Weights of |scores|, given the sign of the scores (arXiv:2411.07176).
struct CogSigned {
  static constexpr const char* kName = "cog_signed";
  static constexpr ScorePlace kPlace = ScorePlace::cog_signed;
  void apply(ScoreMatrix& matrix) const;
};

/// Hides the keys where `allowed`, bool and broadcastable to [b, h, i, j], is false.
struct Mask {
  static constexpr const char* kName = "a mask";
  static constexpr ScorePlace kPlace = ScorePlace::mask;
  at::Tensor allowed;
  /// If defined, `allowed` says no more than this: k and v are fixed buffers after the keys in
  /// front, and each row has one query.
  CachedKeys cached = {};
  void each_tensor(const auto& visit) {
    visit(allowed);
    visit(cached.filled.count);
    visit(cached.filled.key_starts);
    visit(cached.filled.query_starts);
    visit(cached.visible);
  }
  void apply(ScoreMatrix& matrix) const;
};

/// Hides the keys after their query; queries stand at the last key positions.
struct Causal {
  static constexpr const char* kName = "causal";
  static constexpr ScorePlace kPlace = ScorePlace::causal;
  void apply(ScoreMatrix& matrix) const;
};

/// Hides the keys more than `past` positions before their query; queries stand at the last key
/// positions.
struct Window {
  static constexpr const char* kName = "max_attend_past";
  static constexpr ScorePlace kPlace = ScorePlace::window;
  int64_t past = 0;
  void apply(ScoreMatrix& matrix) const;
};

/// Adds contextual positions to the masked scores (arXiv:2405.18719): counted_positions of the
/// table, or added(q, scores) where there is none.
struct Cope {
  static constexpr const char* kName = "cope";
  static constexpr ScorePlace kPlace = ScorePlace::cope;
  at::Tensor table = {};  ///< [positions, d]
  std::function<at::Tensor(const at::Tensor& q, const at::Tensor& scores)> added = {};
  void each_tensor(const auto& visit) { visit(table); }
  void apply(ScoreMatrix& matrix) const;
};

/// A token stops later queries from attending to what it has itself attended to (arXiv:2410.02703,
/// section 3.3).
struct Selective {
  static constexpr const char* kName = "selective";
  static constexpr ScorePlace kPlace = ScorePlace::selective;
  void apply(ScoreMatrix& matrix) const;
};

/// One key more, with these scores [h] and without a value (arXiv:2508.10925).
struct HeadSink {
  static constexpr const char* kName = "head_learned_sink";
  static constexpr ScorePlace kPlace = ScorePlace::head_sink;
  at::Tensor scores;
  void each_tensor(const auto& visit) { visit(scores); }
  void apply(ScoreMatrix& matrix) const;
};

struct Softmax {
  static constexpr const char* kName = "softmax";
  static constexpr ScorePlace kPlace = ScorePlace::normaliser;
  void apply(ScoreMatrix& matrix) const;
};

/// arXiv:2409.04431
struct Sigmoid {
  static constexpr const char* kName = "sigmoid";
  static constexpr ScorePlace kPlace = ScorePlace::normaliser;
  void apply(ScoreMatrix& matrix) const;
};

/// All weight on the maximum score, with the gradient of the softmax.
struct Hard {
  static constexpr const char* kName = "hard";
  static constexpr ScorePlace kPlace = ScorePlace::normaliser;
  void apply(ScoreMatrix& matrix) const;
};

/// Softmax of the `count` largest scores (arXiv:1912.11637); `straight_through` gives the others
/// the gradient of the full softmax (arXiv:2505.22074).
struct SparseTopk {
  static constexpr const char* kName = "sparse_topk";
  static constexpr ScorePlace kPlace = ScorePlace::normaliser;
  int64_t count = 1;
  bool straight_through = false;
  void apply(ScoreMatrix& matrix) const;
};

/// Softmax of scores with Gumbel noise (arXiv:1611.01144); with `hard` as Hard.
struct GumbelSoftmax {
  static constexpr const char* kName = "gumbel_softmax";
  static constexpr ScorePlace kPlace = ScorePlace::normaliser;
  double temperature = 1.0;
  bool hard = true;
  at::Tensor noise = {};  ///< [b, h, i, j]; undefined: drawn
  void each_tensor(const auto& visit) { visit(noise); }
  void apply(ScoreMatrix& matrix) const;
};

/// weights = function(scores)
struct CustomNormaliser {
  static constexpr const char* kName = "custom_attn_fn";
  static constexpr ScorePlace kPlace = ScorePlace::normaliser;
  std::function<at::Tensor(const at::Tensor& scores)> function;
  void apply(ScoreMatrix& matrix) const;
};

/// Dropout of the weights.
struct Dropout {
  static constexpr const char* kName = "dropout of the weights";
  static constexpr ScorePlace kPlace = ScorePlace::dropout;
  double probability = 0.0;
  at::Tensor factors = {};  ///< [b, h, i, j]: 0 or 1 / (1 - probability) each; undefined: drawn
  void each_tensor(const auto& visit) { visit(factors); }
  void apply(ScoreMatrix& matrix) const;
};

/// Weights mixed over heads by `heads` [h, h] (arXiv:2003.02436).
struct PostTalkingHeads {
  static constexpr const char* kName = "post_talking_heads";
  static constexpr ScorePlace kPlace = ScorePlace::post_talking_heads;
  at::Tensor heads;
  void each_tensor(const auto& visit) { visit(heads); }
  void apply(ScoreMatrix& matrix) const;
};

/// Every stage. Tests have a case for each.
using All = std::tuple<DotProduct, L2Distance, PrevAttn, PreScalePostTalkingHeads, PreTalkingHeads,
                       Alibi, DistanceBias, TokenBias, Bias, Softclamp, CogSigned, Mask, Causal,
                       Window, Cope, Selective, HeadSink, Softmax, Sigmoid, Hard, SparseTopk,
                       GumbelSoftmax, CustomNormaliser, Dropout, PostTalkingHeads>;

template <class Stage, class List = All>
inline constexpr bool kIsListed = false;
template <class Stage, class... Listed>
inline constexpr bool kIsListed<Stage, std::tuple<Listed...>> = (std::is_same_v<Stage, Listed> ||
                                                                 ...);

}  // namespace stages

/// What each query [b, h, i, d] finds at the position of each key in a table [positions, d], linear
/// between two of them: the position is the sum of the sigmoids of the scores [b, h, i, j] from
/// that key on, at most the table's last.
at::Tensor counted_positions(const at::Tensor& q, const at::Tensor& scores,
                             const at::Tensor& table);

/// What the places of queries and keys add to scores, where that needs no matrix.
using PositionStage =
    std::variant<std::monostate, stages::Alibi, stages::DistanceBias, stages::TokenBias>;

inline bool is_given(const PositionStage& stage) { return stage.index() != 0; }
/// `count` keys more in front, that have no place.
void add_front(PositionStage& stage, int64_t count);
/// A copy that makes matrices of its own from here on.
PositionStage with_own_matrix(PositionStage stage);
/// The matrix that it stands for, broadcastable to [b, h, i, j]; undefined: none.
at::Tensor bias_of(const PositionStage& stage, int64_t i, int64_t j);

}  // namespace x_transformers
