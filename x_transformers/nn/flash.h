// FLASH: gated attention in groups of tokens and linear attention between the groups (arXiv:
// 2202.10447).
#pragma once

#include <memory>
#include <string>

#include "x_transformers/core/token_buffer.h"
#include "x_transformers/nn/block.h"
#include "x_transformers/nn/flash_options.h"
#include "x_transformers/nn/flash_parts.h"
#include "x_transformers/ops/gated_attention.h"

namespace x_transformers {

/// What causal FLASH keeps of earlier tokens: those of the group that is not full yet, and of all
/// groups before it one matrix. Neither grows with the length.
class FLASHState : public BlockState {
 public:
  explicit FLASHState(int64_t group_size) : group_size_(group_size) { start_group(); }
  void reorder(const at::Tensor& rows) override;
  /// InputError: groups are counted on the host.
  void fix(const StaticPlace& place) override;
  void release(int64_t) override {}

  /// Adds tokens to the group, no more than fit.
  void append(const at::Tensor& quad_keys, const at::Tensor& lin_keys, const at::Tensor& values);
  /// Moves a full group into `before`.
  void close_full_group();
  int64_t in_group() const { return values.length(); }

  TokenBuffer quad_keys, lin_keys, values;  ///< of the group, [b, n, d]
  at::Tensor before;   ///< [b, query_key_dim, hidden_dim] what linear attention sees; undefined: no
                       ///< group is full yet
  at::Tensor shifted;  ///< [b, 1, dim / 2] features that the next token gets (shift_tokens)
  at::Tensor last_bias;  ///< [1, group_size] T5's bias of the last query of a group, where no
                         ///< gradients are recorded: those of others are ends of it
  int64_t length = 0;    ///< tokens so far

 private:
  void start_group();

  int64_t group_size_;
};

/// x + out(gate * (quadratic + linear)): quadratic attention of each group of `group_size` tokens
/// to itself, and linear attention, causal to the groups before, else to all groups (or, without
/// reduce_group_non_causal_attn, to the own one). Reads of its inputs x [b, n, dim] and mask [b or
/// 1, n], of keys; or context [b, m, dim] and context_mask: its tokens are then the keys, which
/// belong to no group, so that linear attention alone reads them, without rotation.
class FLASH : public Block {
 public:
  /// `rotary_pos_emb` may be shared between layers, and stands for the option. Throws InputError
  /// for options out of range.
  explicit FLASH(const FLASHOptions& options,
                 std::shared_ptr<FLASHRotaryEmbedding> rotary_pos_emb = nullptr);
  BranchOutput run(const BranchInputs& inputs) override;
  Text cache_unsupported() const override;
  Text documents_unsupported() const override { return "FLASH attends to groups of rows"; }
  OptionPath drawn_option() const override;
  std::unique_ptr<BlockState> make_state(const StateOptions& options) const override;
  const FLASHOptions& options() const { return options_; }

 private:
  struct Projected;
  at::Tensor shift(const at::Tensor& normed, const at::Tensor& mask, FLASHState* state) const;
  Projected project(const BranchInputs& inputs, FLASHState* state);
  at::Tensor attend_in_group(const at::Tensor& queries, const at::Tensor& keys,
                             const at::Tensor& values, const at::Tensor& bias);
  at::Tensor bias_of_next(FLASHState& state, int64_t count);
  at::Tensor attend_groups(const Projected& p, const at::Tensor& mask);
  at::Tensor continue_groups(const Projected& p, const at::Tensor& mask, FLASHState& state);
  GatedAttnFn attn_fn() const;
  at::Tensor read_context(const BranchInputs& inputs);

  FLASHOptions options_;
  std::shared_ptr<FLASHRotaryEmbedding> rotary_pos_emb_;
  std::shared_ptr<FLASHT5RelativePositionBias> rel_pos_bias_;
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<SiluLinear> to_hidden_, to_qk_;
  std::shared_ptr<OffsetScale> qk_offset_scale_;
  Linear to_out_{nullptr};
};

}  // namespace x_transformers
