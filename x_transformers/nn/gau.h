// The gated attention unit of Transformer Quality in Linear Time (arXiv:2202.10447).
#pragma once

#include <memory>
#include <string>

#include "x_transformers/nn/block.h"
#include "x_transformers/nn/flash_options.h"
#include "x_transformers/nn/flash_parts.h"

namespace x_transformers {

/// What GAU keeps of earlier tokens: keys [b, 1, n, query_key_dim] and values [b, 1, n,
/// hidden_dim], zero where a token is masked, and how many there are.
class GAUState : public KeyValueCache {
 public:
  void reorder(const at::Tensor& rows) override;
  /// InputError: positions are counted on the host.
  void fix(const StaticPlace& place) override;

  at::Tensor visible;  ///< [b, 1] keys that are not masked; undefined: all are not
};

/// One head of quadratic attention and a gate in place of attention and feed-forward: x + out(gate
/// * weights(q, k) v), where q and k are one small projection, scaled and shifted apart. Reads of
/// its inputs x [b, n, dim], mask [b or 1, n] (of keys) and mixing->attn_bias, added to T5's bias;
/// or context [b, m, dim] and context_mask, whose tokens are then the keys, without T5's bias.
class GAU : public Block {
 public:
  /// Throws InputError for options out of range.
  explicit GAU(const GAUOptions& options);
  BranchOutput run(const BranchInputs& inputs) override;
  /// With normalise = "length" each token changes the outputs of all others.
  Text cache_unsupported() const override;
  Text documents_unsupported() const override { return "GAU attends to whole rows"; }
  OptionPath drawn_option() const override;
  std::unique_ptr<BlockState> make_state(const StateOptions& options) const override;
  const GAUOptions& options() const { return options_; }

 private:
  struct Keys;
  Keys keys_of(const BranchInputs& inputs, const at::Tensor& own_key, const at::Tensor& own_value);
  at::Tensor bias_of(const BranchInputs& inputs, const Keys& keys, int64_t n);
  at::Tensor key_counts(const BranchInputs& inputs, const Keys& keys, int64_t n) const;
  at::Tensor attend(const BranchInputs& inputs, const at::Tensor& q, const Keys& keys);
  at::Tensor attend_to_own(const BranchInputs& inputs, const at::Tensor& heads,
                           const at::Tensor& hidden);

  GAUOptions options_;
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<FLASHT5RelativePositionBias> rel_pos_bias_;
  std::shared_ptr<SiluLinear> to_hidden_, to_qk_;
  std::shared_ptr<OffsetScale> offsetscale_;
  Linear to_out_{nullptr};
};

}  // namespace x_transformers
