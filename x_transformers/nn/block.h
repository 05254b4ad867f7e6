// What stands in a layer of a stack, and what it is called with.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/inputs.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/nn/block_state.h"
#include "x_transformers/nn/documents.h"
#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {

struct MixingInputs;

/// What a stack does around a branch, where it leaves that to the branch (ops/linear_ends.h).
struct BranchEnds {
  std::optional<RowNorm> norm;  ///< x is yet to be normalised
  at::Tensor residual;          ///< is yet to be added to the output; undefined: nothing
};

/// What every block takes; undefined tensors and null pointers are absent.
struct BranchInputs {
  at::Tensor x;              ///< [b, n, dim]; of a block with three inputs [3, b, n, dim]
  at::Tensor context;        ///< [b, m, dim_context] for cross attention
  at::Tensor mask;           ///< [b, n] bool: tokens that exist (keys too, without context_mask)
  at::Tensor context_mask;   ///< [b, m] bool: keys that exist
  at::Tensor seq_start_pos;  ///< [b] int64: tokens of the sequence before are padding
  at::Tensor started;        ///< [b, n] bool: tokens of x that are no such padding
  at::Tensor condition;      ///< [b, 1 or n, dim_condition]
  at::Tensor deep_embed;     ///< [b, n, dim] factors of the feed-forward's output
  BranchEnds ends;           ///< only of a block that takes_ends()
  const Documents* documents = nullptr;  ///< of x: no token sees another than its own
  /// Of a layer where tokens see each other (nn/mixing_inputs.h).
  const MixingInputs* mixing = nullptr;
  BlockState* state = nullptr;  ///< made by the block's make_state, appended to
};

/// What a block computes; one where tokens do not see each other has `out` alone.
struct BranchOutput {
  at::Tensor out;  ///< [b, n, dim_out]
  AttentionMaps maps;
  at::Tensor values;  ///< [b, kv_heads, n, d] before residual and norm, for later layers
  GivenState kept;    ///< what Python caches after the call
};

/// What is known of a state when it is made.
struct StateOptions {
  int64_t capacity = 0;      ///< tokens that get room at once
  bool has_context = false;  ///< the keys are those of a context
};

/// A layer's branch: attention, feed-forward, or something wrapped around one of them.
class Block : public torch::nn::Module {
 public:
  virtual BranchOutput run(const BranchInputs& inputs) = 0;
  /// The block within those that are wrapped around it.
  virtual const Block& innermost() const { return *this; }
  /// Whether BranchInputs::ends can be left to the block.
  virtual bool takes_ends() const { return false; }
  /// Why tokens would see other documents than their own (BranchInputs::documents); empty: none
  /// does. Asked of the innermost block.
  virtual Text documents_unsupported() const { return {}; }
  /// Why the block cannot be run token by token; empty: it can.
  virtual Text cache_unsupported() const { return {}; }
  /// The same where its keys are those of a context, which come whole with the first token.
  virtual Text context_cache_unsupported() const { return cache_unsupported(); }
  /// Why keys that do not exist yet, of a cache of fixed size, would change the others; empty: they
  /// do not. Asked of the innermost block.
  virtual Text static_cache_unsupported() const { return {}; }
  /// Why padding in front of a shorter prompt would change the others; empty: it does not. Asked of
  /// the innermost block.
  virtual Text padding_unsupported() const { return {}; }
  /// Why what a caller gives is not all that the block needs of earlier tokens; empty: it is.
  virtual Text given_cache_unsupported(const GivenState&) const { return cache_unsupported(); }
  /// Throws InputError, with `name`, unless what a caller gives has the shapes of the block's
  /// state.
  virtual void check_given(const GivenState&, const Dimension& /*batch*/,
                           const std::string& /*name*/) const {}
  /// What the block keeps of earlier tokens, empty as yet; null: it needs none of them.
  virtual std::unique_ptr<BlockState> make_state(const StateOptions&) const { return nullptr; }
  /// The option by which a pass in training draws random numbers; empty: it draws none. Asked of
  /// the innermost block.
  virtual OptionPath drawn_option() const { return {}; }
  /// The parameters that x-transformers trains with Muon, of the block itself: one within it has
  /// its own.
  virtual std::vector<at::Tensor> muon_parameters() const { return {}; }
};

/// The list of the layers of a stack, its children. What looks at layers one by one, such as
/// train.watch, finds them by it.
class LayerList : public torch::nn::Module {};

}  // namespace x_transformers
