// What may be wrapped around a layer's branch. The wrapped block is registered as "fn", as in
// Python.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "x_transformers/nn/block.h"
#include "x_transformers/nn/block_options.h"

namespace x_transformers {

/// Passes on what it does not change.
class WrappedBlock : public Block {
 public:
  explicit WrappedBlock(std::shared_ptr<Block> fn) : fn_(register_module("fn", std::move(fn))) {}
  const Block& innermost() const override { return fn_->innermost(); }
  Text cache_unsupported() const override { return fn_->cache_unsupported(); }
  std::unique_ptr<BlockState> make_state(const StateOptions& options) const override {
    return fn_->make_state(options);
  }
  Text context_cache_unsupported() const override { return fn_->context_cache_unsupported(); }
  Text given_cache_unsupported(const GivenState& given) const override {
    return fn_->given_cache_unsupported(given);
  }
  void check_given(const GivenState& given, const Dimension& batch,
                   const std::string& name) const override {
    fn_->check_given(given, batch, name);
  }

 protected:
  std::shared_ptr<Block> fn_;
};

/// The output times a constant.
class Scale : public WrappedBlock {
 public:
  Scale(const ScaleOptions& options, std::shared_ptr<Block> fn)
      : WrappedBlock(std::move(fn)), value_(options.value) {}
  BranchOutput run(const BranchInputs& inputs) override;

 private:
  double value_;
};

/// What token shift keeps: the features of the last tokens, which it puts into later ones, and the
/// state of the block inside.
class ShiftState : public BlockState {
 public:
  explicit ShiftState(std::unique_ptr<BlockState> inner) : inner_(std::move(inner)) {}
  /// The `count` tokens before `x` [..., n, d] (zeros where there were none) and x, [..., count +
  /// n, d]; keeps the last `count` of them.
  at::Tensor extend(const at::Tensor& x, int64_t count);
  void reorder(const at::Tensor& entries) override;
  void fix(const StaticPlace& place) override;
  void release(int64_t length) override;
  KeyValueCache* key_values() override { return inner_ ? inner_->key_values() : nullptr; }
  BlockState* inner() const { return inner_.get(); }

 private:
  std::unique_ptr<BlockState> inner_;
  at::Tensor last_;
  bool is_static_ = false;  // what is kept stays at one address
};

/// Groups of features come from neighbouring tokens (token shift, arXiv:2305.13048).
class ShiftTokens : public WrappedBlock {
 public:
  /// Group g of the features comes from the token shifts[g] positions before. Throws InputError for
  /// no shifts.
  ShiftTokens(const ShiftTokensOptions& options, std::shared_ptr<Block> fn);
  BranchOutput run(const BranchInputs& inputs) override;
  std::unique_ptr<BlockState> make_state(const StateOptions& options) const override {
    return std::make_unique<ShiftState>(fn_->make_state(options));
  }
  Text given_cache_unsupported(const GivenState&) const override {
    return text(
        "{} puts features of earlier tokens into later ones, which keys and values do not "
        "tell",
        option("shift_tokens"));
  }

 private:
  at::Tensor shift_features(const at::Tensor& x, const at::Tensor& exists,
                            ShiftState& earlier) const;

  std::vector<int64_t> shifts_;
};

/// The output times a learned factor for each feature (arXiv:2103.17239).
class LayerScale : public WrappedBlock {
 public:
  /// Throws InputError unless dim is 1 or more.
  LayerScale(const LayerScaleOptions& options, std::shared_ptr<Block> fn);
  BranchOutput run(const BranchInputs& inputs) override;

 private:
  at::Tensor gamma_;
  double offset_;
};

/// The output times a factor computed from a condition (arXiv:2212.09748).
class AdaptiveLayerScale : public WrappedBlock {
 public:
  /// The factor starts at the sigmoid of `init_bias_value`, whatever the condition. Throws
  /// InputError unless the sizes are 1 or more.
  AdaptiveLayerScale(const AdaptiveLayerScaleOptions& options, std::shared_ptr<Block> fn);
  BranchOutput run(const BranchInputs& inputs) override;

 private:
  at::Tensor weight_, bias_;
};

}  // namespace x_transformers
