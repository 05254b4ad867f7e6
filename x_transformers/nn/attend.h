// The part of attention that works on scores: its parameters, and the score program that they make
// with its options.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "x_transformers/nn/attend_options.h"
#include "x_transformers/nn/documents.h"
#include "x_transformers/nn/packed_sequences.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/attend_appending.h"

namespace x_transformers {

/// Scores to weighted values, with the parameters that some options have.
class Attend : public torch::nn::Module {
 public:
  /// What one call adds to the options.
  struct Call {
    at::Tensor mask;         ///< bool, [b, j] or broadcastable to [b, h, i, j]: true means attend
    CachedKeys cached;       ///< if defined, it holds all that the mask says (see stages::Mask)
    at::Tensor attn_bias;    ///< broadcastable to [b, h, i, j]
    PositionStage position;  ///< beside attn_bias, for queries at the last keys
    std::optional<int64_t> window;  ///< most positions that a key may lie before its query
    at::Tensor prev_attn;           ///< [b, h, i, j]
    bool keep_maps = false;
    const PackedSequences* packed = nullptr;  ///< needed with flash_pack_seq, and read only there
    int64_t shared_keys = 0;  ///< keys in front that belong to no packed sequence: all see them
    /// Of the queries, and of the keys that are not shared: each is attended to by itself.
    const Documents* documents = nullptr;
  };

  /// `cope` may be null.
  explicit Attend(AttendOptions options, std::shared_ptr<CoPE> cope = nullptr);
  /// q [b, h, i, d], k [b, kv_heads, j, d], v [b, kv_heads, j, dv] -> [b, h, i, dv]
  AttendResult forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const Call& call);
  /// The same of one query on a static cache that its own key and value are yet to be written into
  /// (ops/attend_appending.h); no value, with nothing done, where that is not one pass. The call is
  /// of the keys of the cache, known as `cached`, without the mask; keys in front are in `newest`.
  std::optional<AttendResult> forward_appending(const at::Tensor& q, const at::Tensor& k,
                                                const at::Tensor& v, const NewestKey& newest,
                                                const Call& call);
  /// The call with `count` keys more in front of all, which every query sees and which have no
  /// place.
  static void add_keys_in_front(Call& call, int64_t count);
  /// What forward gives to attend(), told before it does.
  using Observer = std::function<void(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const ScoreProgram& program, bool keep_maps)>;
  void observe(Observer observer) { observer_ = std::move(observer); }
  /// The option by which it draws random numbers in training; empty: it draws none.
  OptionPath drawn_option() const;
  /// The score program of a call with `d` features a head.
  ScoreProgram program(int64_t d, const Call& call) const;

 private:
  /// forward of each document by itself.
  AttendResult attend_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const Call& call);
  at::Tensor add_talking_heads(const char* name);
  void build_custom_function();
  void set_scores(int64_t d, const Call& call, ScoreProgram& program) const;
  void set_masks(const Call& call, ScoreProgram& program) const;
  void set_weights(ScoreProgram& program) const;
  void check_previous(const at::Tensor& prev_attn, int64_t keys) const;

  AttendOptions options_;
  at::Tensor pre_talking_heads_, post_talking_heads_, pre_scale_post_talking_heads_, head_sink_;
  std::shared_ptr<CoPE> cope_;
  std::function<at::Tensor(const at::Tensor&)> custom_;
  bool custom_draws_ = false;  ///< random numbers
  Observer observer_;
};

}  // namespace x_transformers
