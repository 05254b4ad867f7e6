// A stack is planned, then built, then run: the plan is data made from options alone.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

enum class LayerType { attention, cross_attention, feed_forward };

/// One layer as it is to be built.
struct LayerStep {
  LayerType type = LayerType::attention;
  double dropout = 0.0;  ///< probability of being left out in training
  int64_t shift_tokens = 0;
  bool is_half_step = false;  ///< macaron: output times one half
  bool learned_value_residual_mix = false;
  bool takes_views = false;  ///< queries, keys and values come from three views
  int64_t hyper_connection_views = 1;
  std::optional<int64_t> skip_from =
      std::nullopt;  ///< U-Net: joins the input of the step run at this place
};

struct LayerPlan {
  std::vector<LayerStep> layers;
  std::vector<int64_t> execute_order;  ///< indices into layers
  int64_t block_length = 1;            ///< layers of one of `depth`; of custom_layers each is one
  int64_t default_block_length = 1;    ///< the same where all of `depth` are alike, else 1
  int64_t depth = 0;                   ///< Python's `depth` attribute, which sizes deep embeddings

  int64_t count(LayerType type) const;
  /// `given`, where -1 is the last layer, or else execute_order. Throws InputError for a layer that
  /// does not exist.
  std::vector<int64_t> order_of(const std::optional<std::vector<int64_t>>& given) const;
  /// Throws InputError where a layer that joins an earlier one (`skip_from`) would run in `order`
  /// before there is as much.
  void require_skips(const std::vector<int64_t>& order) const;
};

/// The plan of resolved, valid options. Throws InputError where order options contradict each
/// other.
LayerPlan plan_layers(const AttentionLayersOptions& options);

}  // namespace x_transformers
