// A stack of attention and feed-forward layers: Encoder, Decoder, PrefixDecoder, CrossAttender,
// AttentionLayers.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/core/inputs.h"
#include "x_transformers/core/parts.h"
#include "x_transformers/core/recompute.h"
#include "x_transformers/layers/attention_layers_inputs.h"
#include "x_transformers/layers/attention_layers_options.h"
#include "x_transformers/layers/layer_plan.h"
#include "x_transformers/layers/layers_cache.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/block.h"
#include "x_transformers/nn/concat_combine.h"
#include "x_transformers/nn/layer_visits.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/nn/positions/rotary.h"
#include "x_transformers/nn/residuals.h"
#include "x_transformers/nn/sight_owner.h"

namespace x_transformers {

/// Where cached tokens stand.
struct CachedPlaces {
  at::Tensor pos;  ///< [n] or [b, n] their positions; undefined: 0 to n - 1, less seq_start_pos
  at::Tensor seq_start_pos;  ///< [b], as in AttentionLayersInputs
  RotaryState rotary_state;  ///< of the cache
  RotaryAngles rotary;  ///< from outside, in place of the stack's own; new tokens' rows at the end
  at::Tensor polar;     ///< the same: angles of keys [b, h, n, d]
  int64_t new_tokens = 0;  ///< how many
};

class AttentionLayersImpl : public torch::nn::Module,
                            public CaptureCheck,
                            public RecomputedStack,
                            public VisitedStack,
                            public NamedPart,
                            public PartOwner,
                            public SightOwner {
 public:
  explicit AttentionLayersImpl(AttentionLayersOptions options);
  LayersOutput forward(const AttentionLayersInputs& inputs);

  /// The options as resolved.
  const AttentionLayersOptions& options() const { return options_; }
  const LayerPlan& plan() const { return plan_; }
  bool disable_abs_pos_emb() const;
  /// Whether some layer that runs would read positions given beside `inputs`.
  bool reads_positions(const AttentionLayersInputs& inputs) const;
  /// How many layers of a type run.
  size_t layers_run(LayerType type,
                    const std::optional<std::vector<int64_t>>& layers_execute_order) const;
  /// An empty cache for this stack, with room for `capacity` tokens at once; for calls with
  /// `layers_execute_order` where one is given.
  LayersCache make_cache(
      int64_t capacity = 0,
      const std::optional<std::vector<int64_t>>& layers_execute_order = std::nullopt) const;
  /// Keys and values [b, h, n, d] as Python caches them (keys not rotated), made into what caches
  /// of this rotary_state hold.
  std::pair<at::Tensor, at::Tensor> place_cached(const at::Tensor& keys, const at::Tensor& values,
                                                 const CachedPlaces& places) const;
  /// The same for keys of a context, whose positions are `context_pos` [n] or [b, n]; undefined:
  /// they have none.
  at::Tensor place_cached_context(const at::Tensor& keys, const at::Tensor& context_pos) const;
  /// Of self-attention in a PrefixDecoder, whose mask hides what comes later, but not of a prefix.
  Text sight_of(const AttendUser& attention) const override;
  /// Why the stack cannot be decoded with a cache; empty: it can.
  Text cache_unsupported() const;
  /// Why its static caches do not give the numbers of growing ones, and why padding at the left is
  /// seen; empty: they do, it is not.
  Text static_cache_unsupported() const;
  /// Why what layers were given cannot be the memory of a later call.
  Text mems_unsupported() const;
  Text padding_unsupported() const;
  /// Why documents packed into a row would see each other (AttentionLayersInputs::documents);
  /// empty: none does.
  Text documents_unsupported() const;
  /// Why what a caller gives of each attention is not all that the layers need of earlier tokens;
  /// empty: it is.
  Text given_cache_unsupported(
      const std::vector<GivenState>& given,
      const std::optional<std::vector<int64_t>>& layers_execute_order) const;
  Text capture_unsupported() const override;
  Spelling part_spelling(const torch::nn::Module& part) const override;
  /// A block is one of `depth`, with custom_layers a layer. Calls with a cache keep all.
  void set_recomputed_blocks(int64_t blocks) override { recomputed_blocks_ = blocks; }
  /// The blocks of self and cross attention in the order of execution, as LayersCache::key_values
  /// has their states.
  std::vector<const Block*> attentions(
      const std::optional<std::vector<int64_t>>& layers_execute_order = std::nullopt) const;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  struct Layer {
    LayerStep step;
    std::shared_ptr<Norm> pre_norm, post_branch_norm, post_main_norm;
    std::shared_ptr<Block> block;
    std::shared_ptr<ResidualBase> residual;
    std::shared_ptr<ConcatCombine> skip_combine;
    std::shared_ptr<DynamicLIMe> integrator;
  };
  struct State;
  struct Places;

  void build_positions();
  void build_condition();
  void build_layers();
  std::shared_ptr<Block> build_block(const LayerStep& step) const;
  std::shared_ptr<ResidualBase> build_residual(const LayerStep& step, int64_t index) const;
  NormChoice norm_choice() const;
  int64_t condition_features() const;

  bool places_context(const AttentionLayersInputs& inputs) const;
  /// Drops what no layer reads, which Python takes and leaves, with a warning.
  void drop_unread(AttentionLayersInputs& inputs) const;
  void drop_unread_by_self_attention(AttentionLayersInputs& inputs, size_t attentions) const;
  void drop_unread_by_cross_attention(AttentionLayersInputs& inputs) const;
  AxisSizes sizes_of(const AttentionLayersInputs& inputs) const;
  void check(const AttentionLayersInputs& inputs) const;
  void check_additional_kv(const AttentionLayersInputs& inputs) const;
  void check_condition(const AttentionLayersInputs& inputs) const;
  void check_layers(const AttentionLayersInputs& inputs) const;
  void check_mems(const AttentionLayersInputs& inputs) const;
  void check_mems_of_two_lengths(const AttentionLayersInputs& inputs) const;
  void check_positions(const AttentionLayersInputs& inputs) const;
  void check_masks(const AttentionLayersInputs& inputs) const;
  Text first_reason(Text (Block::*ask)() const) const;
  OptionPath drawn_option() const;
  void check_documents(const AttentionLayersInputs& inputs) const;
  State begin(const AttentionLayersInputs& inputs);
  void place(const AttentionLayersInputs& inputs, State& state) const;
  static Places places_of(const AttentionLayersInputs& inputs);
  static at::Tensor positions_of_keys(const AttentionLayersInputs& inputs, const Places& places);
  void place_rotary(const AttentionLayersInputs& inputs, const Places& places, State& state) const;
  void place_polar(const AttentionLayersInputs& inputs, const Places& places, State& state) const;
  bool has_position_bias() const;
  PositionStage stage_of_positions(const AttentionLayersInputs& inputs, int64_t memory) const;
  at::Tensor bias_of_positions(const AttentionLayersInputs& inputs, int64_t memory) const;
  void inject_input(const AttentionLayersInputs& inputs, State& state);
  void route_additional_kv(const AttentionLayersInputs& inputs, State& state) const;
  /// Shows who wants to know what the stack would give if it ended here.
  void show_ending(const State& state);
  void run_layers(const std::vector<int64_t>& order, State& state,
                  const AttentionLayersInputs& inputs);
  /// The same, with what layers compute made again in the backward pass.
  void run_recomputed(const std::vector<int64_t>& order, State& state,
                      const AttentionLayersInputs& inputs);
  /// Whether it was run, and not left out (layer dropout).
  bool run_layer(Layer& layer, State& state, const AttentionLayersInputs& inputs);
  void keep_block(State& state) const;
  BranchOutput run_branch(Layer& layer, State& state, const AttentionLayersInputs& inputs,
                          const at::Tensor& x, const BranchEnds& ends);
  std::optional<RowNorm> norm_of_branch(const Layer& layer, const at::Tensor& x) const;
  bool leaves_residual(const Layer& layer, const at::Tensor& residual) const;
  BranchOutput run_self_attention(Layer& layer, State& state, const AttentionLayersInputs& inputs,
                                  BranchInputs branch);
  BranchOutput run_cross_attention(Layer& layer, State& state, const AttentionLayersInputs& inputs,
                                   BranchInputs branch);
  LayersOutput finish(State& state);

  AttentionLayersOptions options_;
  LayerPlan plan_;
  std::vector<Layer> layers_;
  std::shared_ptr<Norm> final_norm_;
  std::shared_ptr<RotaryEmbedding> rotary_pos_emb_;
  std::shared_ptr<PolarEmbedding> polar_pos_emb_;
  std::shared_ptr<PositionBias> rel_pos_;
  Linear condition_mlp_{nullptr}, reinject_input_proj_{nullptr}, reinject_input_gate_{nullptr};
  at::Tensor stream_emb_;
  at::Tensor first_weight_;  ///< by whose type inputs are judged
  int64_t recomputed_blocks_ = 0;
};
TORCH_MODULE(AttentionLayers);

}  // namespace x_transformers
